"""Forms are read the same however the network cuts them."""

import asyncio
import random

import pytest

from alphareel.http.multipart import _FormReader
from alphareel.http.thread_pools import UploadPool

BOUNDARY = "a-boundary"
PART = b'\r\n--a-boundary\r\nContent-Disposition: form-data; name="%b"%b\r\n\r\n'
FILE = PART % (b"file", b'; filename="clip.mp4"')
FIELD = PART % (b"note", b"")
END = b"\r\n--a-boundary--\r\n"


class CollectedUpload:
    """Keeps what is written to it."""

    def __init__(self) -> None:
        self.content = b""

    def write(self, *pieces: bytes) -> None:
        self.content += b"".join(pieces)


def read(form: bytes, cut_sizes: "list[int]") -> bytes:
    """The file of a form that arrives in pieces of these sizes, again and again."""
    upload = CollectedUpload()

    async def receive() -> None:
        reader = _FormReader(BOUNDARY, lambda _name, _type: upload, UploadPool())  # type: ignore[arg-type, return-value]
        start, number = 0, 0
        while start < len(form):
            size = cut_sizes[number % len(cut_sizes)]
            await reader.feed(form[start : start + size])
            start, number = start + size, number + 1
        await reader.end()

    asyncio.run(receive())
    return upload.content


def content(chance: random.Random) -> bytes:
    """Bytes with many beginnings of delimiters."""
    pieces = (b"\r", b"\n", b"\r\n", b"--", b"\r\n--", b"\r\n--a-bound", b"\r\n--a-boundarX", chance.randbytes(40))
    return b"".join(chance.choice(pieces) for _ in range(60))


@pytest.mark.parametrize("seed", range(30))
def test_a_file_arrives_whole_however_the_form_is_cut(seed: int) -> None:
    chance = random.Random(seed)
    file = content(chance)
    before, behind = (FIELD + content(chance) if chance.random() < 0.5 else b"" for _ in range(2))
    form = (before + FILE + file + behind + END).removeprefix(b"\r\n")
    sizes = [chance.choice((1, 2, 5, 13, 40, 200)) for _ in range(20)]
    assert read(form, sizes) == file


@pytest.mark.parametrize("cut", range(1, len(END) + len(FIELD) + 40))
def test_a_delimiter_is_found_wherever_it_is_cut(cut: int) -> None:
    file = bytes(200)
    form = (FILE + file + FIELD + b"a field of some length, without line breaks" + END).removeprefix(b"\r\n")
    first = len(FILE) - 2 + 150
    assert read(form, [first, 50 + cut, len(form)]) == file
