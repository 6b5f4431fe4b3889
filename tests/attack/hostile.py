"""Hostile input: files that are expensive to open, and requests written byte by byte."""

import asyncio
import json
import struct
from dataclasses import dataclass
from typing import Any


def chunk(name: bytes, payload: bytes) -> bytes:
    return name + struct.pack("<I", len(payload)) + payload + b"\0" * (len(payload) % 2)


def empty_frames(count: int, *, side: int = 4096, payload: bytes = b"JUNK\0\0\0\0", clears: bool = True) -> bytes:
    """An animated WebP whose frames contain no image; each one clears a canvas of 64 MB."""
    edge = (side - 1).to_bytes(3, "little")
    head = chunk(b"VP8X", bytes([0x12, 0, 0, 0]) + edge + edge) + chunk(b"ANIM", bytes(6))
    frame = chunk(b"ANMF", bytes(6) + edge + edge + bytes([40, 0, 0, clears]) + payload)
    body = b"WEBP" + head + frame * count
    return b"RIFF" + struct.pack("<I", len(body)) + body


@dataclass(frozen=True)
class Response:
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def retry_after(self) -> int:
        return int(self.headers["retry-after"])


def upload(path: str, content: bytes, **headers: str) -> bytes:
    """A raw request that uploads a file."""
    form = b'--b\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\n' + content + b"\r\n--b--\r\n"
    return request("POST", path, form, **{"Content-Type": "multipart/form-data; boundary=b", **headers})


def request(method: str, path: str, body: bytes = b"", **headers: str) -> bytes:
    all_headers = {"Host": "localhost", "Connection": "close", "Content-Length": str(len(body)), **headers}
    lines = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in all_headers.items())
    return f"{method} {path} HTTP/1.1\r\n{lines}\r\n".encode("latin-1") + body


async def ask(port: int, raw: bytes) -> Response:
    """Send these bytes on a connection of their own and read the answer."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(raw)
        await writer.drain()
        status, headers = _parse(await reader.readuntil(b"\r\n\r\n"))
        while status == 100:
            status, headers = _parse(await reader.readuntil(b"\r\n\r\n"))
        if "content-length" in headers:  # the server may keep the connection
            body = await reader.readexactly(int(headers["content-length"]))
        else:
            body = await reader.readuntil(b"0\r\n\r\n")
    finally:
        writer.close()
    return Response(status, headers, body)


def _parse(head: bytes) -> tuple[int, dict[str, str]]:
    status, *lines = head.decode("latin-1").split("\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    return int(status.split()[1]), headers
