"""Bad input to what is made of a completed job, and to batches and proofs: a clear error, and nothing made or charged."""

from typing import Any

import pytest
from starlette.testclient import TestClient
from tests.http.conftest import FinishJob, MakeClient, NewKey

from alphareel.testing.fakes import ServiceHarness

VIDEO = "https://example.com/a.mp4"
CLICK = {"time": 0.1, "points": [{"x": 1, "y": 1}]}
# what a completed job can be asked for: (method, path below the job, body)
REQUESTS = [
    ("GET", "embed", None),
    ("GET", "layers", None),
    ("GET", "quality", None),
    ("GET", "subjects", None),
    ("GET", "corrections", None),
    ("POST", "corrections", CLICK),
    ("DELETE", "corrections/1", None),
    ("GET", "exports", None),
    ("POST", "exports", {"format": "mov"}),
]
CHANGES = [each for each in REQUESTS if each[0] != "GET"]


def create(client: TestClient) -> str:
    return str(client.post("/v1/jobs", json={"video_url": VIDEO}).json()["id"])


def ask(client: TestClient, job_id: str, request: tuple[str, str, Any]) -> tuple[int, str]:
    """Status and error code; every error has a message."""
    method, path, body = request
    answer = client.request(method, f"/v1/jobs/{job_id}/{path}", json=body)
    error = answer.json().get("error")
    assert error is None or error["message"]
    return answer.status_code, "" if error is None else error["code"]


@pytest.mark.parametrize("request_", REQUESTS, ids=lambda each: f"{each[0]} {each[1]}")
def test_a_job_of_another_key_and_one_that_was_deleted_are_not_found(
    client: TestClient, make_client: MakeClient, new_key: NewKey, finish_job: FinishJob, request_: tuple[str, str, Any]
) -> None:
    job_id = create(client)
    finish_job(job_id, matte=True)
    assert ask(make_client(secret=new_key()), job_id, request_) == (404, "not_found")
    assert client.delete(f"/v1/jobs/{job_id}").status_code == 200
    assert ask(client, job_id, request_) == (404, "not_found")


@pytest.mark.parametrize(
    "request_", [*CHANGES, ("GET", "embed", None), ("GET", "layers", None)], ids=lambda each: f"{each[0]} {each[1]}"
)
def test_a_job_that_failed_or_is_not_completed_is_refused(
    client: TestClient, harness: ServiceHarness, request_: tuple[str, str, Any]
) -> None:
    refused = (400, "job_not_completed") if request_[1] == "embed" else (409, "invalid_state")
    job_id = create(client)
    assert ask(client, job_id, request_) == refused
    harness.jobs.fail(job_id, attempt=None, error="broken", error_code="internal_error", actor="test")
    assert ask(client, job_id, request_) == refused
    assert client.get(f"/v1/jobs/{job_id}").json()["outputs"] == []


@pytest.mark.parametrize("request_", CHANGES, ids=lambda each: f"{each[0]} {each[1]}")
def test_a_job_without_a_kept_matte_is_refused(
    client: TestClient, finish_job: FinishJob, request_: tuple[str, str, Any]
) -> None:
    job_id = create(client)
    finish_job(job_id)
    assert ask(client, job_id, request_) == (409, "invalid_state")


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"time": 9000}, "time"),
        ({"time": None, "frame": 1_000_000}, "frame"),
        ({"time": -1}, "time"),
        ({"time": None}, "time"),
        ({"points": [{"x": -3, "y": 1}]}, "points"),
        ({"points": [{"x": 1, "y": 1, "label": "maybe"}]}, "points"),
        ({"points": [], "box": [1, 2, 3]}, "box"),
        ({"points": [], "mask_url": "no url"}, "mask_url"),
    ],
)
def test_a_correction_in_no_place_of_the_clip_is_refused_and_leaves_the_job(
    client: TestClient, finish_job: FinishJob, changes: dict[str, Any], field: str
) -> None:
    job_id = create(client)
    finish_job(job_id, matte=True)
    body = {name: value for name, value in {**CLICK, **changes}.items() if value not in (None, [])}
    answer = client.post(f"/v1/jobs/{job_id}/corrections", json=body)
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "invalid_request")
    assert field in answer.json()["error"]["message"]
    assert client.get(f"/v1/jobs/{job_id}/corrections").json()["items"] == []
    assert client.get(f"/v1/jobs/{job_id}").json()["revision"] == 1


@pytest.mark.parametrize(
    "outputs",
    [
        [{"format": "webm"}] * 9,
        [{"format": "webm"}, {"format": "webm"}],
        [{"format": "webm"}, {"format": "txt"}],
        [{"format": "webm"}, {"format": "mp4"}],  # which needs a background
        [],
        "webm",
    ],
    ids=["nine", "twice", "unknown", "no background", "none", "no list"],
)
@pytest.mark.parametrize("path", ["jobs", "batches"])
def test_outputs_that_cannot_be_made_create_no_job(
    client: TestClient, harness: ServiceHarness, new_key: NewKey, make_client: MakeClient, outputs: Any, path: str
) -> None:
    client = make_client(secret=new_key())
    body = {"video_url": VIDEO, "outputs": outputs}
    answer = client.post(f"/v1/{path}", json=body if path == "jobs" else {"items": [{"video_url": VIDEO}, body]})
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "invalid_request")
    assert client.get("/v1/jobs").json()["items"] == []


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"items": []},
        {"items": [{}]},
        {"video_urls": [VIDEO] * 101},
        {"video_urls": [VIDEO, "file:///etc/passwd"]},
        {"video_urls": VIDEO},
    ],
)
def test_a_batch_that_cannot_be_made_creates_no_job(
    make_client: MakeClient, new_key: NewKey, body: dict[str, Any]
) -> None:
    client = make_client(secret=new_key())
    answer = client.post("/v1/batches", json=body)
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "invalid_request")
    assert client.get("/v1/jobs").json()["items"] == []


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"video_url": "file:///etc/passwd"},
        {"video_url": VIDEO, "engines": ["nobody"]},
        {"video_url": VIDEO, "engines": []},
        {"video_url": VIDEO, "engines": "builtin"},
    ],
)
def test_a_proof_that_cannot_be_made_is_refused(client: TestClient, body: dict[str, Any]) -> None:
    answer = client.post("/v1/proofs", json=body)
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "invalid_request")


def test_batches_and_proofs_of_another_key_are_not_found(
    client: TestClient, make_client: MakeClient, new_key: NewKey
) -> None:
    batch = client.post("/v1/batches", json={"video_urls": [VIDEO]}).json()["id"]
    proof = client.post("/v1/proofs", json={"video_url": VIDEO, "engines": ["builtin"]}).json()["id"]
    other = make_client(secret=new_key())
    for path in (f"batches/{batch}", f"proofs/{proof}"):
        assert client.get(f"/v1/{path}").status_code == 200
        assert other.get(f"/v1/{path}").json()["error"]["code"] == "not_found"
    assert client.post(f"/v1/jobs/{proof}/corrections", json=CLICK).json()["error"]["code"] == "invalid_state"
