"""The SDK against answers that a server may give on a bad day."""

import base64
import hashlib
import hmac
import json
import time
from datetime import UTC, datetime

import httpx2
import pytest

from alphareel_client import (
    AdminClient,
    ApiError,
    Client,
    DownloadFailed,
    InvalidSignature,
    JobFailed,
    RemoveBGVideoAdminClient,
    RemoveBGVideoClient,
    RemoveBGVideoError,
    verify_webhook,
)

CONTENT = bytes(range(256)) * 40
VARIABLES = [
    f"{vendor}_{name}" for vendor in ("ALPHAREEL", "REMOVEBGVIDEO") for name in ("API_KEY", "ADMIN_TOKEN", "BASE_URL")
]
CLIENTS = [Client, RemoveBGVideoClient, AdminClient, RemoveBGVideoAdminClient]


@pytest.fixture(autouse=True)
def no_variables(monkeypatch):
    """The environment of whoever runs the tests has no say in them."""
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(autouse=True)
def pauses(monkeypatch):
    """No test sleeps; what would have been slept is noted."""
    slept = []
    monkeypatch.setattr("time.sleep", slept.append)
    return slept


class Script:
    """A transport that plays answers in order; the last one stays."""

    def __init__(self, *answers):
        self.answers = list(answers)
        self.requests = []

    def __call__(self, request):
        request.read()
        self.requests.append(request)
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, Exception):
            raise answer
        return answer(request) if callable(answer) else answer


def answer(status=200, body=None, **headers):
    return httpx2.Response(status, json={} if body is None else body, headers=headers)


def refusal(status, code="some_code", **headers):
    return answer(status, {"error": {"code": code, "message": "It is so.", "request_id": "req_7"}}, **headers)


def job(status="completed", **fields):
    facts = {"mime": "video/webm", "size": len(CONTENT), "sha256": hashlib.sha256(CONTENT).hexdigest()}
    made = {"id": "job_1", "status": status, "progress": 50, "output_url": "http://files/x?sig=1", "output": facts}
    return {**made, "error": None, "error_code": None, **fields}


def client_of(script, **options):
    return Client("key", base_url="http://api/prefix/", transport=httpx2.MockTransport(script), **options)


def test_key_must_not_be_empty():
    with pytest.raises(ValueError, match="api_key is required"):
        Client("")


def test_base_url_may_have_a_prefix_and_the_key_is_sent_as_a_header():
    script = Script(answer(body=job()))
    client_of(script).get_job("job_1")
    (request,) = script.requests
    assert str(request.url) == "http://api/prefix/v1/jobs/job_1"
    assert request.headers["x-api-key"] == "key"


def test_refusal_becomes_an_error_with_everything_the_server_said():
    body = {"error": {"code": "invalid_request", "message": "No.", "request_id": "req_7", "details": [{"field": "a"}]}}
    with pytest.raises(ApiError, match=r"^No\.$") as caught:
        client_of(Script(answer(400, body))).create_job("http://v")
    error = caught.value
    assert (error.status_code, error.code, error.request_id, error.message) == (400, "invalid_request", "req_7", "No.")
    assert error.details == ({"field": "a"},)


@pytest.mark.parametrize(
    "body",
    [{"error": "text"}, {"error": None}, {"error": []}, {"detail": "x"}, [], {}, {"message": "top"}],
    ids=repr,
)
def test_error_of_any_shape_is_an_api_error(body):
    with pytest.raises(ApiError) as caught:
        client_of(Script(answer(400, body))).create_job("http://v")
    assert caught.value.status_code == 400
    assert caught.value.message


@pytest.mark.parametrize("text", [b"<html>Bad Gateway</html>", b"", b"\xff\xfe"])
def test_answer_that_is_no_json_is_an_api_error(text):
    with pytest.raises(ApiError, match="Non-JSON response"):
        client_of(Script(httpx2.Response(502, content=text)), retries=0).get_job("job_1")


@pytest.mark.parametrize("trouble", [refusal(429), refusal(500), refusal(503), httpx2.ReadError("gone")], ids=repr)
def test_reading_is_repeated_after_a_passing_failure(trouble, pauses):
    script = Script(trouble, trouble, answer(body=job()))
    assert client_of(script).get_job("job_1")["status"] == "completed"
    assert len(script.requests) == 3
    assert 0 < pauses[0] < pauses[1]


def test_pause_is_what_the_server_asks_for(pauses):
    client_of(Script(refusal(429, **{"Retry-After": "7"}), answer(body=job()))).get_job("job_1")
    assert pauses == [7.0]


@pytest.mark.parametrize(
    "trouble", [refusal(400), refusal(401), refusal(402), refusal(404)], ids=lambda r: r.status_code
)
def test_refusal_that_will_not_pass_is_not_repeated(trouble):
    script = Script(trouble)
    with pytest.raises(ApiError):
        client_of(script).get_job("job_1")
    assert len(script.requests) == 1


@pytest.mark.parametrize("trouble", [refusal(500), refusal(503), httpx2.ReadError("gone")], ids=repr)
def test_creation_that_may_have_happened_is_repeated_under_the_same_name(trouble):
    script = Script(trouble, answer(body=job("processing")))
    assert client_of(script).create_job("http://v")["id"] == "job_1"
    names = [request.headers["Idempotency-Key"] for request in script.requests]
    assert len(names) == 2
    assert len(set(names)) == 1


def test_every_creation_has_a_name_of_its_own():
    script = Script(answer(body=job("processing")), answer(body=job("processing")))
    sdk = client_of(script)
    sdk.create_job("http://v")
    sdk.start_job("job_1")
    assert len({request.headers["Idempotency-Key"] for request in script.requests}) == 2


@pytest.mark.parametrize("trouble", [refusal(500), refusal(503), httpx2.ReadError("gone")], ids=repr)
def test_upload_that_may_have_happened_is_not_repeated(trouble, tmp_path):
    (tmp_path / "a.mp4").write_bytes(b"video")
    script = Script(trouble)
    with pytest.raises(ApiError):
        client_of(script).upload(tmp_path / "a.mp4")
    assert len(script.requests) == 1


@pytest.mark.parametrize("trouble", [refusal(429), httpx2.ConnectError("nobody there")], ids=repr)
def test_creation_that_cannot_have_happened_is_repeated(trouble):
    script = Script(trouble, answer(body=job("processing")))
    assert client_of(script).create_job("http://v")["id"] == "job_1"


def test_server_that_never_answers_is_an_api_error_without_a_status():
    with pytest.raises(ApiError, match="nobody there") as caught:
        client_of(Script(httpx2.ConnectError("nobody there"))).get_job("job_1")
    assert caught.value.status_code is None


def test_fields_left_at_none_are_not_sent():
    script = Script(answer(body=job("created")))
    client_of(script).create_job("http://v", model="pro", text_prompt=None, auto_start=False)
    assert json.loads(script.requests[0].content) == {"video_url": "http://v", "model": "pro", "auto_start": False}


def test_waiting_polls_ever_more_slowly_and_tells_progress(pauses):
    seen = []
    script = Script(*[answer(body=job("processing", progress=n)) for n in range(9)], answer(body=job(progress=100)))
    assert client_of(script).wait_for_completion("job_1", on_progress=seen.append)["status"] == "completed"
    assert pauses[0] == 1.0
    assert pauses == sorted(pauses)
    assert pauses[-1] == 10.0
    assert seen == [*range(9), 100]


def test_waiting_for_a_job_that_fails_raises_its_error():
    script = Script(answer(body=job("failed", error="Cancelled", error_code="cancelled")))
    with pytest.raises(JobFailed, match="Cancelled") as caught:
        client_of(script).wait_for_completion("job_1")
    assert caught.value.code == "cancelled"
    assert caught.value.job["id"] == "job_1"


def test_waiting_ends_with_the_deadline():
    with pytest.raises(TimeoutError):
        client_of(Script(answer(body=job("processing")))).wait_for_completion("job_1", timeout=0.5)


class Files:
    """Serves the API and a file that breaks off; remembers the ranges that were asked for."""

    def __init__(self, content=CONTENT, *, breaks=0, status=None, **fields):
        self.content = content
        self.breaks = breaks
        self.status = list(status or [])
        self.fields = fields
        self.ranges = []
        self.keys = []
        self.links = 0

    def __call__(self, request):
        if request.url.host == "api":
            self.links += 1
            return answer(body=job(**{"output_url": f"http://files/x?sig={self.links}", **self.fields}))
        self.keys.append(request.headers.get("x-api-key"))
        asked = request.headers.get("range")
        self.ranges.append(asked)
        if self.status and (status := self.status.pop(0)) != 200:
            return httpx2.Response(status, content=b"{}")
        start = int(asked[6:-1]) if asked else 0
        if start > len(self.content):
            return httpx2.Response(416)
        rest = self.content[start:]
        headers = {"Content-Length": str(len(rest))}
        status = 206 if asked else 200
        if self.breaks:
            self.breaks -= 1
            return httpx2.Response(status, headers=headers, content=self.broken(rest[:3000]))
        return httpx2.Response(status, headers=headers, content=rest)

    @staticmethod
    def broken(piece):
        yield piece
        raise httpx2.ReadError("connection reset")


def partials(folder):
    return [path.name for path in folder.iterdir() if path.name.endswith(".part")]


def test_download_arrives_whole_verified_and_without_the_key_on_the_link(tmp_path):
    files = Files()
    seen = []
    made = client_of(files).download("job_1", tmp_path / "out.webm", on_progress=lambda *n: seen.append(n))
    assert made == tmp_path / "out.webm"
    assert made.read_bytes() == CONTENT
    assert seen[-1] == (len(CONTENT), len(CONTENT))
    assert files.keys == [None]
    assert partials(tmp_path) == []


def test_download_that_breaks_off_goes_on_where_it_stopped_with_a_fresh_link(tmp_path):
    files = Files(breaks=2)
    client_of(files).download(job(), tmp_path / "out.webm")
    assert (tmp_path / "out.webm").read_bytes() == CONTENT
    assert files.ranges == [None, "bytes=3000-", "bytes=6000-"]
    assert files.links == 3


def test_download_goes_on_in_a_later_call(tmp_path):
    with pytest.raises(ApiError):
        client_of(Files(status=[200, 500, 500, 500, 500, 500, 500, 500], breaks=1)).download("job_1", tmp_path / "out")
    assert len(partials(tmp_path)) == 1
    assert not (tmp_path / "out").exists()
    files = Files()
    client_of(files).download("job_1", tmp_path / "out")
    assert files.ranges == ["bytes=3000-"]
    assert (tmp_path / "out").read_bytes() == CONTENT


@pytest.mark.parametrize("status", [403, 404, 410])
def test_expired_link_is_asked_for_again(tmp_path, status):
    client_of(Files(status=[status])).download("job_1", tmp_path / "out")
    assert (tmp_path / "out").read_bytes() == CONTENT


def test_damaged_download_leaves_nothing(tmp_path):
    with pytest.raises(DownloadFailed, match="damaged"):
        client_of(Files(CONTENT[:-1] + b"x")).download("job_1", tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_damaged_download_does_not_touch_what_was_there(tmp_path):
    (tmp_path / "out").write_bytes(b"old")
    with pytest.raises(DownloadFailed):
        client_of(Files(CONTENT[:-1] + b"x")).download("job_1", tmp_path / "out", overwrite=True)
    assert (tmp_path / "out").read_bytes() == b"old"
    assert partials(tmp_path) == []


def test_partial_file_that_is_too_long_is_begun_anew(tmp_path):
    files = Files(output=None)
    (tmp_path / "out.job1.part").write_bytes(bytes(99_999))
    client_of(files).download("job_1", tmp_path / "out")
    assert (tmp_path / "out").read_bytes() == CONTENT


def test_server_that_ignores_ranges_is_no_trouble(tmp_path):
    files = Files()
    mark = hashlib.sha256(CONTENT).hexdigest()[:24]
    (tmp_path / f"out.{mark}.part").write_bytes(CONTENT[:100])
    files.__class__ = type("Whole", (Files,), {"__call__": lambda self, r: Files.__call__(self, without_range(r))})
    client_of(files).download("job_1", tmp_path / "out")
    assert (tmp_path / "out").read_bytes() == CONTENT


def without_range(request):
    request.headers.pop("range", None)
    return request


def test_job_without_facts_is_measured_by_its_length(tmp_path):
    client_of(Files(output=None)).download("job_1", tmp_path / "out")
    assert (tmp_path / "out").read_bytes() == CONTENT


def test_download_of_a_job_that_is_not_done_is_refused(tmp_path):
    with pytest.raises(ApiError, match="processing"):
        client_of(Script(answer(body=job("processing")))).download("job_1", tmp_path / "out")
    with pytest.raises(JobFailed):
        client_of(Script(answer(body=job("failed", error="x")))).download("job_1", tmp_path / "out")


def test_upload_streams_the_file_and_counts(tmp_path):
    source = tmp_path / "clip.mp4"
    source.write_bytes(CONTENT * 30)
    script = Script(answer(body={"success": True, "video_url": "u"}))
    seen = []
    client_of(script).upload(source, on_progress=lambda *n: seen.append(n))
    (request,) = script.requests
    assert b'name="file"; filename="clip.mp4"' in request.content
    assert CONTENT * 30 in request.content
    assert len(seen) > 3
    assert seen[-1] == (len(CONTENT) * 30, len(CONTENT) * 30)


@pytest.mark.parametrize(
    ("name", "guess", "declared"),
    [
        ("clip.mp4", "video/mp4", b"video/mp4"),
        ("clip.ts", "text/vnd.trolltech.linguist", b"application/octet-stream"),
        ("clip.3gp", "audio/3gpp", b"application/octet-stream"),
        ("clip", None, b"application/octet-stream"),
    ],
)
def test_upload_declares_no_type_that_is_not_of_a_video(tmp_path, monkeypatch, name, guess, declared):
    monkeypatch.setattr("mimetypes.guess_type", lambda _: (guess, None))
    (tmp_path / name).write_bytes(CONTENT)
    script = Script(answer(body={"success": True, "video_url": "u"}))
    client_of(script).upload(tmp_path / name)
    assert b"Content-Type: " + declared + b"\r\n" in script.requests[0].content


def test_upload_that_is_repeated_begins_at_the_beginning(tmp_path):
    source = tmp_path / "clip.mp4"
    source.write_bytes(CONTENT)
    script = Script(refusal(429), answer(body={"success": True}))
    client_of(script).upload(source)
    assert [CONTENT in request.content for request in script.requests] == [True, True]


def test_upload_of_a_missing_file_is_an_os_error(tmp_path):
    with pytest.raises(FileNotFoundError):
        client_of(Script(answer())).upload(tmp_path / "none.mp4")


def dropin(script, **options):
    return RemoveBGVideoClient("key", base_url="http://api/", transport=httpx2.MockTransport(script), **options)


def test_dropin_takes_the_key_from_the_environment_and_refuses_none(monkeypatch):
    with pytest.raises(ValueError, match="api_key is required"):
        RemoveBGVideoClient("")
    with pytest.raises(ValueError, match="api_key is required"):
        RemoveBGVideoClient()
    monkeypatch.setenv("REMOVEBGVIDEO_API_KEY", "from-environment")
    assert RemoveBGVideoClient().api_key == "from-environment"


def test_dropin_has_the_defaults_of_the_other_sdk():
    script = Script(answer(body=job("processing")))
    dropin(script).create_job("http://v")
    assert json.loads(script.requests[0].content) == {
        "video_url": "http://v",
        "model": "original",
        "bg_type": "green",
        "output_format": "webm",
        "auto_start": True,
    }


def test_dropin_sends_empty_texts_as_absent_and_an_empty_color_as_it_is():
    script = Script(answer(body=job("processing")))
    dropin(script).create_job("http://v", text_prompt="", webhook_url="", bg_color=[], metadata={})
    body = json.loads(script.requests[0].content)
    assert "text_prompt" not in body
    assert "webhook_url" not in body
    assert (body["bg_color"], body["metadata"]) == ([], {})


def test_dropin_start_sends_an_object_even_when_it_is_empty():
    script = Script(answer(body=job("processing")))
    dropin(script).start_job("job_1")
    assert (script.requests[0].method, script.requests[0].content) == ("POST", b"{}")


def test_dropin_raises_the_job_s_error_and_nothing_more_special():
    script = Script(answer(body=job("failed", error="Cancelled")))
    with pytest.raises(ApiError, match=r"^Cancelled$") as caught:
        dropin(script).wait_for_completion("job_1", interval_seconds=0)
    assert isinstance(caught.value, RemoveBGVideoError)
    assert type(caught.value) is ApiError


def test_dropin_wait_ends_after_its_timeout(pauses):
    with pytest.raises(TimeoutError, match="did not complete in 0s"):
        dropin(Script(answer(body=job("processing")))).wait_for_completion("job_1", timeout_seconds=-0)
    assert set(pauses) <= {2.0}


def test_dropin_lists_and_reads_usage_with_the_same_parameters():
    script = Script(answer(body={}))
    sdk = dropin(script)
    sdk.list_jobs()
    sdk.list_jobs(limit=5, offset=2, status="failed")
    sdk.usage_summary()
    sdk.usage_events(limit=3)
    assert [str(request.url).removeprefix("http://api") for request in script.requests] == [
        "/v1/jobs?limit=20&offset=0",
        "/v1/jobs?limit=5&offset=2&status=failed",
        "/v1/usage/summary?days=7",
        "/v1/usage/events?limit=3",
    ]


def test_dropin_upload_of_a_missing_file_says_so(tmp_path):
    with pytest.raises(FileNotFoundError, match="File not found"):
        dropin(Script(answer())).upload(tmp_path / "none.mp4")


def test_an_estimate_is_asked_for_with_what_is_known_of_the_clip():
    script = Script(answer(body={"credits": 60.0}))
    assert client_of(script).estimate("http://v", model="human", source={"seconds": 60})["credits"] == 60
    (request,) = script.requests
    assert (request.url.path, json.loads(request.content)) == (
        "/prefix/v1/estimate",
        {"video_url": "http://v", "model": "human", "source": {"seconds": 60}},
    )


@pytest.mark.parametrize("kind", CLIENTS)
def test_no_client_has_a_default_address_on_another_host(kind):
    assert kind("key").base_url == "http://127.0.0.1:8080"


@pytest.mark.parametrize("kind", CLIENTS)
def test_base_url_comes_from_the_argument_then_from_our_variable_then_from_the_other_sdk_s(kind, monkeypatch):
    monkeypatch.setenv("REMOVEBGVIDEO_BASE_URL", "https://theirs.example/")
    assert kind("key").base_url == "https://theirs.example"
    monkeypatch.setenv("ALPHAREEL_BASE_URL", "https://ours.example")
    assert kind("key").base_url == "https://ours.example"
    assert kind("key", base_url="https://named.example/x/").base_url == "https://named.example/x"


@pytest.mark.parametrize("url", ["api.example.com", "ftp://a.example", "https://", "/v1"])
def test_base_url_that_is_no_http_url_is_refused(url):
    with pytest.raises(ValueError, match="http or https URL"):
        Client("key", base_url=url)


@pytest.mark.parametrize(
    ("kind", "header", "variables"),
    [
        (Client, "x-api-key", ("ALPHAREEL_API_KEY", "REMOVEBGVIDEO_API_KEY")),
        (RemoveBGVideoClient, "x-api-key", ("ALPHAREEL_API_KEY", "REMOVEBGVIDEO_API_KEY")),
        (AdminClient, "x-admin-token", ("ALPHAREEL_ADMIN_TOKEN", "REMOVEBGVIDEO_ADMIN_TOKEN")),
        (RemoveBGVideoAdminClient, "x-admin-token", ("ALPHAREEL_ADMIN_TOKEN", "REMOVEBGVIDEO_ADMIN_TOKEN")),
    ],
)
def test_secret_is_read_from_either_variable_and_sent_without_the_whitespace_around_it(
    kind, header, variables, monkeypatch
):
    script = Script(answer(body={}))

    def sent():
        client = kind(base_url="http://api", transport=httpx2.MockTransport(script))
        client.list_jobs() if hasattr(client, "list_jobs") else client.list_keys()
        return script.requests[-1].headers[header]

    with pytest.raises(ValueError, match="is required"):
        kind()
    monkeypatch.setenv(variables[1], "theirs\n")
    assert sent() == "theirs"
    monkeypatch.setenv(variables[0], " ours\r\n")
    assert sent() == "ours"


@pytest.mark.parametrize("kind", CLIENTS)
@pytest.mark.parametrize("secret", ["secret\nsecret", "secret\x00", "secr\u00e9t", "secret\tx"])
def test_secret_that_cannot_be_sent_is_refused_at_once_and_never_printed(kind, secret):
    with pytest.raises(ValueError, match="control or non-ASCII character") as caught:
        kind(secret)
    assert "secr" not in str(caught.value)
    assert caught.value.__cause__ is None


@pytest.mark.parametrize("kind", CLIENTS)
def test_neither_the_text_of_a_client_nor_that_of_its_errors_has_the_secret_or_a_password(kind):
    transport = httpx2.MockTransport(Script(httpx2.ConnectError("nobody there")))
    client = kind("the-secret", base_url="http://user:pass@api", transport=transport)
    call = client.list_jobs if hasattr(client, "list_jobs") else client.list_keys
    with pytest.raises(ApiError) as caught:
        call()
    inner = getattr(client, "_session", None) or client._admin._session
    for text in (repr(client), repr(inner), str(caught.value), repr(caught.value)):
        assert "the-secret" not in text
        assert "pass" not in text


def test_download_into_an_existing_folder_is_named_after_the_job_and_the_link(tmp_path):
    files = Files(output_url="http://files/outputs/job_1/2/result.webm?sig=1")
    (tmp_path / "folder").mkdir()
    for path in (f"{tmp_path}/folder/", tmp_path / "folder"):
        target = client_of(files).download("job_1", path, overwrite=True)
        assert target == tmp_path / "folder" / "job_1.webm"
        assert target.read_bytes() == CONTENT
    assert [path.name for path in (tmp_path / "folder").iterdir()] == ["job_1.webm"]


def test_download_into_a_folder_never_leaves_it_whatever_the_service_calls_its_job(tmp_path):
    files = Files(id="../../job", output_url="http://files/x/..%2f?sig=1")
    assert client_of(files).download("job_1", tmp_path) == tmp_path / "job.webm"


@pytest.mark.parametrize(
    ("path", "error"),
    [("none/", FileNotFoundError), ("none/out.webm", FileNotFoundError), ("file/", NotADirectoryError)],
)
def test_download_to_a_folder_that_is_not_there_is_refused_before_any_request(tmp_path, path, error):
    (tmp_path / "file").write_bytes(b"x")
    script = Script(answer(body=job()))
    with pytest.raises(error, match="Create it first"):
        client_of(script).download("job_1", f"{tmp_path}/{path}")
    assert script.requests == []
    assert [found.name for found in tmp_path.iterdir()] == ["file"]


def test_download_does_not_replace_a_file_unless_asked_to(tmp_path):
    target = tmp_path / "out"
    target.write_bytes(b"old")
    files = Files()
    with pytest.raises(FileExistsError, match="overwrite=True"):
        client_of(files).download("job_1", target)
    assert (target.read_bytes(), files.links, partials(tmp_path)) == (b"old", 0, [])
    client_of(files).download("job_1", target, overwrite=True)
    assert target.read_bytes() == CONTENT


def sse(*events, tail=b""):
    """The bytes of an event stream; each event is (name, id, data)."""
    blocks = [
        f"{'' if number is None else f'id: {number}'}\nevent: {name}\ndata: {json.dumps(data, ensure_ascii=False)}\n\n"
        for name, number, data in events
    ]
    return (": heartbeat\n\n" + "".join(blocks)).encode() + tail


def stream(*pieces, error=None):
    def content():
        yield from pieces
        if error is not None:
            raise error

    return lambda _: httpx2.Response(200, headers={"Content-Type": "text/event-stream"}, content=content())


def test_events_are_yielded_until_the_end_however_the_stream_is_cut_into_pieces():
    text = sse(("state", 1, {"reason": "\u00fc\u2028x"}), ("progress", None, {"progress": 50}), ("end", None, job()))
    script = Script(stream(*(text[n : n + 7] for n in range(0, len(text), 7))))
    events = list(client_of(script).events("job_1"))
    assert [(event["event"], event["id"]) for event in events] == [("state", "1"), ("progress", None), ("end", None)]
    assert events[0]["data"] == {"reason": "\u00fc\u2028x"}
    assert events[-1]["data"]["id"] == "job_1"
    assert script.requests[0].url.path == "/prefix/v1/jobs/job_1/events"


def test_events_go_on_after_a_lost_connection_without_a_gap_or_a_repeat(pauses):
    script = Script(
        stream(sse(("state", 1, {}), tail=b"id: 2\nevent: sta"), error=httpx2.ReadError("gone")),
        httpx2.ConnectError("nobody there"),
        refusal(503, **{"Retry-After": "3"}),
        stream(sse(("state", 2, {}))),  # the server stopped in good order
        stream(sse(("deleted", None, {"id": "job_1"}))),
    )
    events = list(client_of(script).events("job_1"))
    assert [(event["event"], event["id"]) for event in events] == [("state", "1"), ("state", "2"), ("deleted", None)]
    assert [request.headers.get("last-event-id") for request in script.requests] == [None, "1", "1", "1", "2"]
    assert 3.0 in pauses


def test_events_of_a_job_whose_end_is_known_are_none():
    script = Script(httpx2.Response(204))
    assert list(client_of(script).events("job_1", last_event_id="7")) == []
    assert script.requests[0].headers["last-event-id"] == "7"


def test_events_that_are_refused_or_never_come_raise_api_errors():
    with pytest.raises(ApiError) as caught:
        list(client_of(Script(refusal(404, "not_found"))).events("job_1"))
    assert caught.value.code == "not_found"
    script = Script(stream())
    with pytest.raises(ApiError, match="ended before the job did"):
        list(client_of(script, retries=2).events("job_1"))
    assert len(script.requests) == 3


SECRET = "whsec_" + "c2VjcmV0" * 4


def signed(body, secret, *, at):
    """The headers that the service sends (both schemes)."""
    stamp = datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    key = base64.b64decode(secret[6:]) if secret.startswith("whsec_") else secret.encode()
    standard = hmac.new(key, f"whd_1.{int(at)}.".encode() + body, hashlib.sha256).digest()
    return {
        "X-Webhook-Timestamp": stamp,
        "X-Webhook-Signature": "sha256="
        + hmac.new(secret.encode(), stamp.encode() + b"." + body, "sha256").hexdigest(),
        "Webhook-Id": "whd_1",
        "Webhook-Timestamp": str(int(at)),
        "Webhook-Signature": "v1," + base64.b64encode(standard).decode(),
    }


@pytest.mark.parametrize("secret", ["a signing secret", SECRET])
@pytest.mark.parametrize("scheme", ["x-webhook", "webhook", ""])
def test_webhook_with_either_signature_is_verified(secret, scheme):
    body = b'{"event":"job.completed","event_id":"whd_1"}'
    headers = {n: v for n, v in signed(body, secret, at=time.time()).items() if n.lower().startswith(scheme)}
    assert verify_webhook(body, headers, ["an old one", secret])["event"] == "job.completed"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda body, headers: (body + b" ", headers), "no valid signature"),
        (lambda body, _: (body, {}), "no valid signature"),
        (lambda body, _: (body, signed(body, "another", at=time.time())), "no valid signature"),
        (lambda body, _: (body, signed(body, SECRET, at=time.time() - 301)), "more than 300 s"),
        (lambda body, _: (body, signed(body, SECRET, at=time.time() + 301)), "more than 300 s"),
        (
            lambda body, _: (body, {**signed(body, SECRET, at=1e9), "Webhook-Timestamp": str(int(time.time()))}),
            "more than 300 s",
        ),
    ],
    ids=["changed body", "no headers", "another secret", "old", "from the future", "old with a fresh unsigned time"],
)
def test_webhook_that_is_forged_or_replayed_is_refused(change, message):
    body, headers = change(b'{"event":"job.failed"}', signed(b'{"event":"job.failed"}', SECRET, at=time.time()))
    with pytest.raises(InvalidSignature, match=message):
        verify_webhook(body, headers, SECRET)


def test_admin_dropin_sends_what_the_other_sdk_sends():
    script = Script(answer(body={"items": []}))
    admin = RemoveBGVideoAdminClient("token", base_url="http://api/", transport=httpx2.MockTransport(script))
    admin.get_config()
    assert admin.list_keys() == {"items": []}
    admin.create_key("acme")
    admin.create_key("acme", "for tests")
    admin.disable_key("fp_1")
    admin.enable_key("fp_1")
    assert [(r.method, r.url.path, json.loads(r.content or b"null")) for r in script.requests] == [
        ("GET", "/v1/admin/config", None),
        ("GET", "/v1/admin/keys", None),
        ("POST", "/v1/admin/keys", {"client_id": "acme"}),
        ("POST", "/v1/admin/keys", {"client_id": "acme", "note": "for tests"}),
        ("POST", "/v1/admin/keys/disable", {"key_fingerprint": "fp_1"}),
        ("POST", "/v1/admin/keys/enable", {"key_fingerprint": "fp_1"}),
    ]
    assert {r.headers["x-admin-token"] for r in script.requests} == {"token"}


@pytest.mark.parametrize("call", [lambda c: c.admin("t").create_key("acme"), lambda c: c.webhooks.test("http://h")])
def test_what_may_have_happened_and_cannot_be_repeated_is_sent_once(call):
    script = Script(httpx2.ReadError("gone"))
    with pytest.raises(ApiError):
        call(client_of(script))
    assert len(script.requests) == 1


class TusServer:
    """Takes ``step`` bytes of each PATCH, then plays the next fault."""

    def __init__(self, content, *faults, step=3):
        self.content, self.faults, self.step = content, list(faults), step
        self.received = b""
        self.offsets = []

    def __call__(self, request):
        if request.method == "POST":
            assert request.headers["upload-length"] == str(len(self.content))
            return httpx2.Response(201, headers={"Location": "http://elsewhere/v1/uploads/tus/t1"})
        assert str(request.url) == "http://api/prefix/v1/uploads/tus/t1"
        if request.method == "PATCH":
            self.offsets.append(int(request.headers["upload-offset"]))
            body = request.read()
            fault = self.faults.pop(0) if self.faults else None
            if fault is None:
                self.received += body
                return httpx2.Response(204)
            self.received += body[: self.step]
            if isinstance(fault, Exception):
                raise fault
            return fault
        ended = self.received == self.content
        upload = {"video_id": "v", "video_url": "u"} if ended else None
        status = "completed" if ended else "receiving"
        return answer(body={"status": status, "offset": len(self.received), "upload": upload})


@pytest.fixture
def film(tmp_path):
    path = tmp_path / "a.mp4"
    path.write_bytes(b"0123456789" * 5)
    return path


def test_a_resumable_upload_goes_on_where_it_stopped(film, pauses):
    faults = [httpx2.ReadError("cut"), refusal(423, "upload_locked", **{"Retry-After": "6"}), refusal(503)] * 4
    server = TusServer(film.read_bytes(), *faults)
    assert client_of(server, retries=2).upload(film, resumable=True)["video_id"] == "v"
    assert server.offsets == list(range(0, 37, 3))
    assert server.received == film.read_bytes()
    assert 6 in pauses


def test_a_resumable_upload_without_progress_gives_up(film):
    server = TusServer(film.read_bytes(), *[refusal(503)] * 50, step=0)
    with pytest.raises(ApiError) as caught:
        client_of(server, retries=3).upload(film, resumable=True)
    assert (caught.value.status_code, len(server.offsets)) == (503, 4)


def test_a_refused_part_is_not_sent_again(film):
    server = TusServer(film.read_bytes(), refusal(400, "storage_quota_exceeded"))
    with pytest.raises(ApiError, match="It is so"):
        client_of(server).upload(film, resumable=True)
    assert server.offsets == [0]


def test_an_older_service_gets_a_form_unless_the_caller_insists(film, monkeypatch):
    monkeypatch.setattr("alphareel_client.client.RESUMABLE_BYTES", 10)
    script = Script(refusal(405), answer(body={"video_url": "u"}))
    assert client_of(script).upload(film) == {"video_url": "u"}
    assert [request.url.path for request in script.requests] == ["/prefix/v1/uploads/tus", "/prefix/v1/uploads"]
    with pytest.raises(ApiError):
        client_of(Script(refusal(405))).upload(film, resumable=True)
