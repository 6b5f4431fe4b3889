"""Text that a database cannot store is refused with a client error, on both databases."""

import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from alphareel.http.app import create_app
from alphareel.service.api_keys.service import digest
from alphareel.service.principal import Principal
from alphareel.testing.fakes import ServiceHarness, make_settings, open_harness

ADMIN = "token of the tests"
SECRET = f"ar_live_{uuid.uuid4().hex}"
VIDEO = {"video_url": "https://a.example/v.mp4"}


@pytest.fixture
def harness(database_url: str, tmp_path: Path) -> Iterator[ServiceHarness]:
    harness = open_harness(tmp_path, database_url=database_url)
    facts: dict[str, Any] = {"fingerprint": "fp", "client_id": "c", "note": ""}
    harness.keystore.add_key(key_id="k", secret_sha256=digest(SECRET), **facts)
    yield harness
    harness.close()


@pytest.fixture
def client(harness: ServiceHarness) -> Iterator[TestClient]:
    app = create_app(harness.services, make_settings(access={"admin_token": ADMIN}))
    headers = {"X-Api-Key": SECRET, "X-Admin-Token": ADMIN}
    with TestClient(app, headers=headers, raise_server_exceptions=False) as client:
        yield client


def test_no_route_with_a_nul_in_its_path_fails_or_stops_the_count_of_calls(
    client: TestClient, harness: ServiceHarness
) -> None:
    for path, operations in client.app.openapi()["paths"].items():  # type: ignore[attr-defined]
        for name in ("job_id", "upload_id", "webhook_id", "blob"):
            path = path.replace(f"{{{name}}}", "a%00b")  # noqa: PLW2901
        for method in operations if "%00" in path else ():
            response = client.request(method, path)
            assert (response.status_code, response.json()["error"]["code"]) == (404, "not_found"), path
            assert response.json()["error"]["request_id"] == response.headers["x-request-id"]
    assert client.head("/v1/jobs/%00").status_code == 404
    assert client.get("/v1/jobs").status_code == 200
    harness.services.calls.flush()
    assert client.get("/v1/usage/summary").json()["total_requests"] == 1


@pytest.mark.parametrize("query", ["client_id=%00", "client_id=a%00b&limit=3", "%00=1"])
def test_a_query_with_a_nul_is_a_bad_request(client: TestClient, query: str) -> None:
    for path in ("/v1/admin/credits", "/v1/jobs"):
        response = client.get(f"{path}?{query}")
        assert (response.status_code, response.json()["error"]["code"]) == (400, "invalid_request")


@pytest.mark.parametrize("bad", [b"a\\u0000b", b"a\\ud800b"])
@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/admin/keys/disable", b'{"key_fingerprint": "%s"}'),
        ("/v1/admin/keys/rotate", b'{"key_fingerprint": "%s"}'),
        ("/v1/admin/keys", b'{"client_id": "c", "note": "%s"}'),
        ("/v1/admin/credits/grant", b'{"client_id": "%s", "credits": 1}'),
        ("/v1/jobs", b'{"video_url": "https://a.example/%s"}'),
        ("/v1/jobs", b'{"video_url": "https://a.example/v.mp4", "metadata": {"list": [{"%s": 1}]}}'),
        ("/v1/webhooks/test", b'{"webhook_url": "https://a.example/%s"}'),
    ],
)
def test_a_body_with_text_that_no_database_stores_is_a_bad_request(
    client: TestClient, path: str, body: bytes, bad: bytes
) -> None:
    response = client.post(path, content=body % bad, headers={"Content-Type": "application/json"})
    assert (response.status_code, response.json()["error"]["code"]) == (400, "invalid_request")


def test_a_body_may_contain_an_escaped_backslash_u0000(client: TestClient) -> None:
    response = client.post("/v1/jobs", json={**VIDEO, "metadata": {"a": "\\u0000"}})
    assert response.status_code == 200


@pytest.mark.parametrize("bad", ["bad\0name", "bad\ud800name"])
def test_the_error_of_a_job_may_quote_any_text(harness: ServiceHarness, bad: str) -> None:
    job = harness.services.jobs.create(Principal(None, "req"), VIDEO)
    assert harness.jobs.fail(job.id, attempt=None, error=bad, error_code="fetch_failed", actor="w")
    failed = harness.jobs.job(job.id)
    assert failed is not None
    assert failed.error == "bad\ufffdname"
