"""Errors have one shape on every path and method."""

import json

import pytest

from alphareel.domain import errors as domain_errors
from alphareel.http.errors import STATUS

METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")


def every_error(kind=domain_errors.AlphareelError):
    for child in kind.__subclasses__():
        if child.__module__ == domain_errors.__name__:
            yield child
            yield from every_error(child)


@pytest.fixture
def crash(harness, monkeypatch):
    """Makes the creation of jobs raise."""

    def with_error(error):
        def create(*_args, **_options):
            raise error

        monkeypatch.setattr(harness.services.jobs, "create", create)

    return with_error


def paths(client):
    return [path.replace("{job_id}", "job_0").replace("{blob}", "a") for path in client.app.openapi()["paths"]]


def assert_envelope(response):
    assert response.headers["content-type"] == "application/json"
    body = response.json()
    assert set(body) == {"error"}
    assert (
        {"code", "message", "request_id"} <= set(body["error"]) <= {"code", "message", "request_id", "details", "hint"}
    )
    assert all(isinstance(body["error"][name], str) and body["error"][name] for name in ("code", "message"))
    assert body["error"]["request_id"] == response.headers["x-request-id"]


@pytest.mark.parametrize("error", list(every_error()), ids=lambda e: e.__name__)
def test_every_error_has_a_status(error):
    assert 400 <= STATUS[error] <= 504


def test_every_path_and_method_answers_200_or_the_envelope(make_client, key):
    """No key, a wrong key, a good one; no body, garbage, a list: never HTML, never an empty or strange error."""
    clients = [
        make_client(secret=secret, rate_limits={"auth_failures": 0, "write": 0}) for secret in (None, "wrong", key)
    ]
    bodies = (b"", b"\xff{not json", b"[1,2]", b"null")
    for client in clients:
        for path in [*paths(client), "/", "/nowhere", "/v1/nowhere", "/v1/jobs/"]:
            for method in METHODS:
                for body in bodies if method == "POST" else bodies[1:2]:
                    response = client.request(method, path, content=body, headers={"Content-Type": "application/json"})
                    assert response.status_code in (200, 400, 401, 404, 405), (method, path, body)
                    if response.status_code != 200:
                        assert_envelope(response)


def _missing(path):
    if path.startswith("/v1/runners"):
        return "missing_runner_token"
    return "missing_admin_token" if path.startswith("/v1/admin") else "missing_api_key"


def test_every_v1_route_refuses_without_a_key(anonymous_client):
    for path, operations in anonymous_client.app.openapi()["paths"].items():
        for method in operations:
            if path.startswith("/v1"):
                response = anonymous_client.request(method, path)
                assert (response.status_code, response.json()["error"]["code"]) == (401, _missing(path)), path


def test_wrong_key_is_refused_with_the_documented_message(make_client):
    response = make_client(secret="wrong").get("/v1/jobs")
    assert response.status_code == 401
    assert response.json()["error"]["code"] == "invalid_api_key"
    assert response.json()["error"]["message"] == "Invalid API key"
    assert response.json()["error"]["hint"] == "Send a key of this server that is enabled."


def test_key_is_checked_before_the_body(make_client):
    response = make_client(secret=None).post("/v1/jobs", content=b"{broken")
    assert response.json()["error"]["code"] == "missing_api_key"


def test_405_lists_every_method_of_the_path(client):
    response = client.delete("/v1/jobs")
    assert response.status_code == 405
    assert response.headers["allow"] == "GET, HEAD, POST"
    assert response.json()["error"]["code"] == "method_not_allowed"


def test_a_trailing_slash_is_not_redirected(client):
    response = client.post("/v1/jobs/", json={"video_url": "https://a.example/x.mp4"}, follow_redirects=False)
    assert response.status_code == 404


@pytest.mark.parametrize(
    "body",
    [
        b"{",
        b"[]",
        b'"x"',
        b"1",
        b"null",
        b'{"a": NaN}',
        b'{"a": Infinity}',
        b"\xff\xfe{}",
        b'{"metadata": "\\ud800"}',
        b"[" * 100_000,
        b'{"a":' * 40 + b"1" + b"}" * 40,
        b'{"a": ' + b"9" * 5000 + b"}",
        b'{"video_url": "https://a.example/v.mp4", "preview_duration": ' + b"9" * 400 + b"}",
        b'{"video_url": "https://a.example/v.mp4", "preview_duration": -' + b"9" * 400 + b"}",
        b'{"video_url": "https://a.example/v.mp4", "bg_type": "color", "bg_color": [' + b"9" * 400 + b", 1, 1]}",
        b"{" + b" " * (1024 * 1024) + b"}",
    ],
    ids=lambda b: repr(b[:12]),
)
def test_a_body_that_is_not_a_usable_json_object_is_400(client, body):
    response = client.post("/v1/jobs", content=body, headers={"Content-Type": "application/json"})
    assert response.status_code == 400
    assert response.json()["error"]["code"] == "invalid_request"


def test_validation_names_each_field_at_fault(client):
    response = client.post("/v1/jobs", json={"video_url": "https://a.example/x.mp4", "model": "huge", "bg_color": []})
    fields = {detail["field"] for detail in response.json()["error"]["details"]}
    assert fields == {"model", "bg_color"}


def test_empty_color_is_400_not_500(client):
    assert client.post(
        "/v1/jobs", json={"video_url": "https://a.example/x.mp4", "bg_type": "green", "bg_color": []}
    ).status_code in (
        200,
        400,
    )
    assert (
        client.post(
            "/v1/jobs", json={"video_url": "https://a.example/x.mp4", "bg_type": "color", "bg_color": []}
        ).status_code
        == 400
    )


def test_unknown_exception_is_500_and_leaks_nothing(client, crash):
    crash(RuntimeError("/secret/path and password"))
    response = client.post("/v1/jobs", json={"video_url": "https://a.example/x.mp4"})
    assert response.status_code == 500
    assert_envelope(response)
    assert response.json()["error"]["code"] == "internal_error"
    assert "secret" not in response.text


def test_own_500s_keep_their_details_in_the_log(client, crash):
    crash(domain_errors.StorageFailed("cannot write /var/lib/alphareel: no space left"))
    response = client.post("/v1/jobs", json={"video_url": "https://a.example/x.mp4"})
    assert (response.status_code, response.json()["error"]["code"]) == (503, "storage_failed")
    assert "/var/lib" not in response.text


def test_the_phrases_of_the_contract_stand_alone(client, crash):
    crash(domain_errors.InsufficientCredits("Not enough credits to process this video", hint="Buy some."))
    error = client.post("/v1/jobs", json={"video_url": "https://a.example/x.mp4"}).json()["error"]
    assert (error["message"], error["hint"]) == ("Not enough credits to process this video", "Buy some.")


def test_message_is_what_was_wrong_and_what_to_do(client, crash):
    crash(domain_errors.InsufficientCredits("Not enough credits to process this video.", hint="Buy some."))
    response = client.post("/v1/jobs", json={"video_url": "https://a.example/x.mp4"})
    assert response.status_code == 402
    assert response.json()["error"]["message"] == "Not enough credits to process this video. Buy some."


def test_rate_limit_says_when_to_come_back(client, crash):
    crash(domain_errors.RateLimited("Too many requests.", retry_after=3.2))
    response = client.post("/v1/jobs", json={"video_url": "https://a.example/x.mp4"})
    assert (response.status_code, response.headers["retry-after"]) == (429, "4")


def test_a_valid_request_id_is_kept(client):
    response = client.get("/v1/jobs", headers={"X-Request-Id": "abc-1.2_3"})
    assert response.headers["x-request-id"] == "abc-1.2_3"


@pytest.mark.parametrize("sent", ["", "a b", "a" * 65, "x\ty", "ü", "{}"])
def test_an_invalid_request_id_is_replaced(client, sent):
    response = client.get("/v1/nowhere", headers={"X-Request-Id": sent.encode()})
    assert response.headers["x-request-id"].startswith("req_")
    assert response.json()["error"]["request_id"] == response.headers["x-request-id"]


def test_cross_origin_preflight_requests_are_refused(client):
    response = client.options(
        "/v1/jobs", headers={"Origin": "https://a.example", "Access-Control-Request-Method": "POST"}
    )
    assert response.status_code == 405
    assert not [name for name in response.headers if name.startswith("access-control")]


def test_openapi_is_valid_json_with_no_422(client):
    text = client.get("/openapi.json").text
    assert json.loads(text)["openapi"].startswith("3.1")
    assert "422" not in text
    assert "HTTPValidationError" not in text


@pytest.mark.parametrize("levels", [33, 900, 990, 5000, 200_000])
def test_bodies_that_nest_too_deep_are_refused_however_deep(client, levels):
    response = client.post("/v1/jobs", content=b"[" * levels + b"]" * levels)
    assert response.status_code == 400
    assert response.json()["error"]["message"] == "The body nests deeper than 32 levels."


def test_a_number_of_too_many_digits_is_refused_in_plain_words(client):
    response = client.post("/v1/jobs", content='{"video_url": "https://a.example/v", "grow": ' + "9" * 5000 + "}")
    assert response.status_code == 400
    assert response.json()["error"]["message"] == "The body is not valid JSON: a number has 5000 digits."


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32-le"])
def test_null_characters_are_refused_in_every_encoding(client, encoding):
    body = '{"video_url": "https://a.example/v", "unknown": "\\u0000"}'.encode(encoding)
    response = client.post("/v1/jobs", content=body)
    assert response.status_code == 400
    assert response.json()["error"]["details"][0]["field"] == "unknown"


@pytest.mark.parametrize("path", ["/v1/jobs", "/v1/models", "/v1/usage/summary", "/openapi.json", "/api/pricing"])
def test_head_is_answered_wherever_get_is_with_the_same_headers_and_no_body(client, path):
    got, head = client.get(path), client.head(path)
    assert (head.status_code, head.content) == (200, b"")
    assert head.headers["content-length"] == got.headers["content-length"]
    assert head.headers["content-type"] == got.headers["content-type"]


def test_head_of_a_job_has_its_etag_and_that_of_its_events_ends(client):
    job = client.post("/v1/jobs", json={"video_url": "https://example.com/in.mp4"}).json()
    assert client.head(f"/v1/jobs/{job['id']}").headers["etag"]
    assert client.head("/v1/jobs/none").status_code == 404
    events = client.head(f"/v1/jobs/{job['id']}/events")
    assert (events.status_code, events.content) == (200, b"")
    assert events.headers["content-type"].startswith("text/event-stream")


def test_head_is_refused_where_there_is_no_get(client, anonymous_client):
    refused = client.head("/v1/estimate")
    assert (refused.status_code, refused.headers["allow"]) == (405, "POST")
    assert anonymous_client.head("/v1/jobs").status_code == 401
    assert "HEAD" in client.put("/v1/jobs").headers["allow"]


def test_head_is_logged_as_head_with_its_route(client, logs):
    client.head("/v1/jobs")
    assert [(line["method"], line["route"]) for line in logs() if line["event"] == "request"] == [("HEAD", "/v1/jobs")]
