"""The SDK against answers that a server may give on a bad day."""

import hashlib
import json

import httpx2
import pytest

from alphareel_client import ApiError, Client, DownloadFailed, JobFailed, RemoveBGVideoClient, RemoveBGVideoError

CONTENT = bytes(range(256)) * 40


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
    facts = {"size": len(CONTENT), "sha256": hashlib.sha256(CONTENT).hexdigest()}
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
            return answer(body=job(output_url=f"http://files/x?sig={self.links}", **self.fields))
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
        client_of(Files(CONTENT[:-1] + b"x")).download("job_1", tmp_path / "out")
    assert (tmp_path / "out").read_bytes() == b"old"


def test_partial_file_that_is_too_long_is_begun_anew(tmp_path):
    files = Files(output=None)
    (tmp_path / ".out.job1.part").write_bytes(bytes(99_999))
    client_of(files).download("job_1", tmp_path / "out")
    assert (tmp_path / "out").read_bytes() == CONTENT


def test_server_that_ignores_ranges_is_no_trouble(tmp_path):
    files = Files()
    mark = hashlib.sha256(CONTENT).hexdigest()[:24]
    (tmp_path / f".out.{mark}.part").write_bytes(CONTENT[:100])
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
