"""Every header that a route reads, with values that no client sends: never a 500, always the one shape of errors."""

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

from .hostile import Answer, ask, request, upload

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(110)]

KEY, ADMIN = "a key of the tests", "a token for operators"
AT_ONCE = 16
Target = tuple[str, str, bytes, dict[str, str]]
READ = {  # by which of the targets below
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
    """By a short name (method, path, body, headers) of requests that are well but for the header under test."""
    mine = {"X-Api-Key": KEY}
    with video.open("rb") as file:
        sent = requests.post(f"{service.base}/v1/uploads", headers=mine, files={"file": file}, timeout=60).json()
    link = urlsplit(sent["video_url"])
    creation = {"video_url": "https://example.com/a.mp4", "auto_start": False}
    job = requests.post(f"{service.base}/v1/jobs", headers=mine, json=creation, timeout=20).json()["id"]
    assert requests.post(f"{service.base}/v1/jobs/{job}/cancel", headers=mine, timeout=20).status_code == 200
    body = json.dumps(creation).encode()
    as_json = {"Content-Type": "application/json"}
    form = b'--b\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\n\r\n--b--\r\n'
    as_form = {"Content-Type": "multipart/form-data; boundary=b"}
    return {
        "/health": ("GET", "/health", b"", {}),
        "/nowhere": ("GET", "/nowhere", b"", {}),
        "/metrics": ("GET", "/metrics", b"", {"X-Admin-Token": ADMIN}),
        "/v1/admin/keys": ("GET", "/v1/admin/keys", b"", {"X-Admin-Token": ADMIN}),
        "/v1/jobs": ("GET", "/v1/jobs", b"", mine),
        "/v1/jobs/{id}": ("GET", f"/v1/jobs/{job}", b"", mine),
        "/v1/jobs/{id}/events": ("GET", f"/v1/jobs/{job}/events", b"", mine),
        "/files": ("GET", f"{link.path}?{link.query}", b"", {}),
        "/api/status": ("GET", f"/api/status/{job}", b"", {}),
        "/v1/jobs POST": ("POST", "/v1/jobs", body, {**mine, **as_json}),
        "/api/process": ("POST", "/api/process", b'{"video_url": ""}', as_json),
        "/v1/uploads": ("POST", "/v1/uploads", form, {**mine, **as_form}),
        "/api/upload": ("POST", "/api/upload", form, as_form),
    }


def asked(port: int, raws: dict[str, bytes]) -> dict[str, Answer | None]:
    """None where no answer came, as for a request that is not whole."""
    places = asyncio.Semaphore(AT_ONCE)

    async def one(raw: bytes) -> Answer | None:
        async with places:
            try:
                return await asyncio.wait_for(ask(port, raw), 5)
            except (TimeoutError, asyncio.IncompleteReadError, ConnectionError):
                return None

    async def everything() -> dict[str, Answer | None]:
        return dict(zip(raws, await asyncio.gather(*map(one, raws.values())), strict=True))

    return asyncio.run(everything())


def is_well_told(answer: Answer) -> bool:
    if answer.status < 400:
        return True
    error = json.loads(answer.body)["error"]
    return answer.status < 500 and {"code", "message", "request_id"} <= set(error) and bool(error["message"])


def test_no_value_of_any_header_breaks_a_route(port: int, targets: dict[str, Target]) -> None:
    raws = {}
    for name, places in READ.items():
        for place, value in itertools.product(places, VALUES):
            method, path, body, given = targets[place]
            raws[f"{place} {name}: {value[:40]!r}"] = request(method, path, body, **{**given, name: value})
    answers = asked(port, raws)
    print(f"\n{len(raws)} requests: {dict(Counter(a.status if a else None for a in answers.values()))}")
    assert [what for what, answer in answers.items() if answer is None] == []
    broken = {what: answer for what, answer in answers.items() if answer is not None and not is_well_told(answer)}
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
    answers = [(what, answer) for what, answer in asked(port, raws).items() if answer is not None]
    assert [(what, answer) for what, answer in answers if not is_well_told(answer)] == []


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
    answers = {}
    for what, raw in raws.items():
        answers[what] = asyncio.run(ask(port, raw))
    assert {what: answer for what, answer in answers.items() if not is_well_told(answer)} == {}
    assert Counter(answer.status for answer in answers.values())[200] >= 10
