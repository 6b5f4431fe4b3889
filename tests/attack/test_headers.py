"""Malformed values for every header that a route reads: never a 500, always an error in the usual shape."""

import asyncio
import itertools
import json
import struct
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import requests

from alphareel.testing.clips import make_clip
from alphareel.testing.service import ServiceProcess

from .hostile import Response, ask, request, upload

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(900)]

KEY, ADMIN = "a key of the tests", "a token for operators"
MAX_CONCURRENT = 16
Target = tuple[str, str, bytes, dict[str, str]]
READ = {  # header -> the targets (see below) whose routes read it
    "Accept": ["/v1/jobs"],
    "Authorization": ["/metrics"],
    "Connection": ["/health"],
    "Content-Type": ["/v1/jobs POST", "/v1/uploads", "/api/upload"],
    "Expect": ["/v1/jobs POST", "/v1/uploads"],
    "Host": [
        "/health",
        "/nowhere",
        "/v1/jobs",
        "/v1/jobs POST",
        "/api/status",
        "/api/upload",
        "/api/process",
        "/files",
    ],
    "Idempotency-Key": ["/v1/jobs POST", "/v1/uploads"],
    "If-None-Match": ["/files", "/v1/jobs/{id}"],
    "If-Range": ["/files"],
    "Last-Event-ID": ["/v1/jobs/{id}/events"],
    "Origin": ["/v1/jobs", "/api/status", "/api/upload", "/api/process"],
    "Range": ["/files"],
    "Upgrade": ["/health"],
    "X-Admin-Token": ["/metrics", "/v1/admin/keys"],
    "X-Api-Key": ["/v1/jobs", "/api/status", "/v1/uploads"],
    "X-Forwarded-For": ["/health", "/api/status", "/api/upload"],
    "X-Forwarded-Proto": ["/v1/jobs", "/v1/uploads"],
    "X-Request-Id": ["/health", "/nowhere"],
    "traceparent": ["/v1/jobs"],
}
VALUES = [
    "",
    " ",
    "0",
    "-1",
    "9" * 5000,
    "1e999",
    "[::1",
    "http://[::1",
    "http://[::1]:99999999",
    "//[",
    "a]b",
    "\u00ff\u00fe",
    "\u00b2\u00b3",
    "\u00e2\u0084\u0080.example.com",
    "%",
    "%ff%00",
    "'" * 50,
    '"',
    "bytes=99999999999999999999-",
    "bytes=-0",
    "bytes=5-1,1-5",
    "multipart/form-data; boundary=\u00ff",
    "multipart/form-data; boundary=" + "b" * 300,
    "multipart/form-data; boundary*=idna''b",
    'multipart/form-data; boundary="',
    "application/json; charset=undefined",
    "00-00000000000000000000000000000000-0000000000000000-ff",
    "a, b; c=d, *",
    "chunked, chunked",
    "\t",
]
DISPOSITIONS = [
    "form-data",
    "form-data; name=\"file\"; filename*=idna''%e2%84%80.mp4",
    "form-data; name=\"file\"; filename*=undefined''a.mp4",
    "form-data; name=\"file\"; filename*=punycode''a-%ff.mp4",
    "form-data; name=\"file\"; filename*=unicode_escape''%5cN{",
    "form-data; name=\"file\"; filename*=raw_unicode_escape''%5cu12",
    "form-data; name=\"file\"; filename*=base64''a",
    "form-data; name=\"file\"; filename*=rot13''a",
    "form-data; name=\"file\"; filename*=mbcs''a",
    "form-data; name=\"file\"; filename*=utf-16''%ff",
    'form-data; name="file"; filename*=' + "x" * 300 + "''a",
    'form-data; name="file"; filename*=\'',
    "form-data; name=\"file\"; filename*=''",
    'form-data; name="file"; filename="\u00ff\u00fe"',
    'form-data; name="file"; filename="' + "a" * 3000 + '"',
    'form-data; name="file"; filename="..\\..\\"',
    'form-data; name="\u00ff"; filename="a"',
    'form-data; name="file"; filename="a',
    "form-data; name*=idna''file; filename=a",
]


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServiceProcess]:
    limits = {"WRITE_PER_MINUTE": 0, "READ_PER_MINUTE": 0, "GUESSES_PER_MINUTE": 0}
    folder = tmp_path_factory.mktemp("service") / "data"
    with ServiceProcess(folder, API_KEY=KEY, ADMIN_TOKEN=ADMIN, WORKERS=0, **limits) as running:
        yield running


@pytest.fixture(scope="module")
def port(service: ServiceProcess) -> int:
    return int(urlsplit(service.base).port or 0)


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_clip(tmp_path_factory.mktemp("clip") / "in.mp4", width=64, height=48, frames=5).path


@pytest.fixture(scope="module")
def targets(service: ServiceProcess, video: Path) -> dict[str, Target]:
    """Valid requests by a short name, as (method, path, body, headers); a test adds the header under test."""
    key_header = {"X-Api-Key": KEY}
    with video.open("rb") as file:
        uploaded = requests.post(
            f"{service.base}/v1/uploads", headers=key_header, files={"file": file}, timeout=60
        ).json()
    link = urlsplit(uploaded["video_url"])
    job_body = {"video_url": "https://example.com/a.mp4", "auto_start": False}
    job = requests.post(f"{service.base}/v1/jobs", headers=key_header, json=job_body, timeout=60).json()["id"]  # type: ignore[arg-type]
    assert requests.post(f"{service.base}/v1/jobs/{job}/cancel", headers=key_header, timeout=60).status_code == 200
    body = json.dumps(job_body).encode()
    as_json = {"Content-Type": "application/json"}
    form = b'--b\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\n\r\n--b--\r\n'
    as_form = {"Content-Type": "multipart/form-data; boundary=b"}
    return {
        "/health": ("GET", "/health", b"", {}),
        "/nowhere": ("GET", "/nowhere", b"", {}),
        "/metrics": ("GET", "/metrics", b"", {"X-Admin-Token": ADMIN}),
        "/v1/admin/keys": ("GET", "/v1/admin/keys", b"", {"X-Admin-Token": ADMIN}),
        "/v1/jobs": ("GET", "/v1/jobs", b"", key_header),
        "/v1/jobs/{id}": ("GET", f"/v1/jobs/{job}", b"", key_header),
        "/v1/jobs/{id}/events": ("GET", f"/v1/jobs/{job}/events", b"", key_header),
        "/files": ("GET", f"{link.path}?{link.query}", b"", {}),
        "/api/status": ("GET", f"/api/status/{job}", b"", {}),
        "/v1/jobs POST": ("POST", "/v1/jobs", body, {**key_header, **as_json}),
        "/api/process": ("POST", "/api/process", b'{"video_url": ""}', as_json),
        "/v1/uploads": ("POST", "/v1/uploads", form, {**key_header, **as_form}),
        "/api/upload": ("POST", "/api/upload", form, as_form),
    }


def send_all(port: int, raws: dict[str, bytes], *, patience: float = 100) -> dict[str, Response | None]:
    """The responses by name; None without a response in ``patience`` seconds, as to an incomplete request."""
    slots = asyncio.Semaphore(MAX_CONCURRENT)

    async def send(raw: bytes) -> Response | None:
        async with slots:
            try:
                return await asyncio.wait_for(ask(port, raw), patience)
            except (TimeoutError, asyncio.IncompleteReadError, ConnectionError):
                return None

    async def gather_all() -> dict[str, Response | None]:
        return dict(zip(raws, await asyncio.gather(*map(send, raws.values())), strict=True))

    return asyncio.run(gather_all())


def is_proper_response(response: Response) -> bool:
    if response.status < 400:
        return True
    error = json.loads(response.body)["error"]
    return response.status < 500 and {"code", "message", "request_id"} <= set(error) and bool(error["message"])


def test_no_value_of_any_header_breaks_a_route(port: int, targets: dict[str, Target]) -> None:
    raws = {}
    for name, targeted in READ.items():
        for target, value in itertools.product(targeted, VALUES):
            method, path, body, headers = targets[target]
            raws[f"{target} {name}: {value[:40]!r}"] = request(method, path, body, **{**headers, name: value})
    responses = send_all(port, raws)
    print(f"\n{len(raws)} requests: {dict(Counter(a.status if a else None for a in responses.values()))}")
    assert [what for what, response in responses.items() if response is None] == []
    broken = {
        what: response
        for what, response in responses.items()
        if response is not None and not is_proper_response(response)
    }
    assert broken == {}


def test_no_length_of_a_body_breaks_a_route(port: int) -> None:
    values = [*VALUES, "5, 5", "+5", "0x5", "5 5", "18446744073709551616"]
    raws = {
        f"{path} {name}: {value[:40]!r}": request(
            "POST", path, b"5\r\nwords\r\n0\r\n\r\n", **{"X-Api-Key": KEY, name: value, "Content-Type": kind}
        )
        for path, kind in (("/v1/jobs", "application/json"), ("/v1/uploads", "multipart/form-data; boundary=b"))
        for name in ("Content-Length", "Transfer-Encoding")
        for value in values
    }
    responses = [
        (what, response) for what, response in send_all(port, raws, patience=5).items() if response is not None
    ]
    assert [(what, response) for what, response in responses if not is_proper_response(response)] == []


def test_no_header_of_a_part_breaks_an_upload(port: int, video: Path) -> None:
    raws = {}
    for number, disposition in enumerate(DISPOSITIONS):
        content = video.read_bytes() + struct.pack(">I", 12) + b"free" + struct.pack(">I", number)
        raw = upload("/api/upload", content)
        plain = b'form-data; name="file"; filename="a"'
        head, _, body = raw.partition(b"\r\n\r\n")
        body = body.replace(plain, disposition.encode("latin-1"))
        lines = [line for line in head.split(b"\r\n") if not line.startswith(b"Content-Length")]
        raws[disposition[:60]] = b"\r\n".join([*lines, b"Content-Length: %d" % len(body)]) + b"\r\n\r\n" + body
    responses = {}
    for what, raw in raws.items():
        responses[what] = asyncio.run(ask(port, raw))
    assert {what: response for what, response in responses.items() if not is_proper_response(response)} == {}
    assert Counter(response.status for response in responses.values())[200] >= 10
