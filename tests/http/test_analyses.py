"""Analyses over HTTP: clients that wait for one leave the request threads to others."""

import asyncio
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import anyio.to_thread
import pytest
from starlette.testclient import TestClient
from tests.http.conftest import FinishJob

from alphareel.http.routes import analyses
from alphareel.service.jobs.models import Status


def test_clients_that_wait_for_an_analysis_hold_no_request_thread(
    client: TestClient, finish_job: FinishJob, monkeypatch: pytest.MonkeyPatch
) -> None:
    job_id = client.post("/v1/jobs", json={"video_url": "https://example.com/a.mp4"}).json()["id"]
    finish_job(job_id, matte=True)

    def leave_two_threads() -> None:
        anyio.to_thread.current_default_thread_limiter().total_tokens = 2

    assert client.portal is not None
    client.portal.call(leave_two_threads)
    monkeypatch.setattr(analyses, "_WAIT_SECONDS", 600.0)
    polled: Counter[int] = Counter()

    async def sleep(seconds: float) -> None:
        polled[id(asyncio.current_task())] += 1
        await asyncio.sleep(seconds)

    monkeypatch.setattr(analyses, "asyncio", SimpleNamespace(sleep=sleep))
    with ThreadPoolExecutor() as clients:
        paths = [f"/v1/jobs/{job_id}/{name}" for name in ("quality", "subjects", "quality")]
        waiting = [clients.submit(client.get, path) for path in paths]
        while len(polled) < 3:
            time.sleep(0.01)
        assert client.get(f"/v1/jobs/{job_id}").status_code == 200
        assert not any(future.done() for future in waiting)
        monkeypatch.setattr(analyses, "TERMINAL", frozenset(Status))
        assert [future.result().status_code for future in waiting] == [200] * 3


def test_layers_are_made_of_the_subjects_of_a_completed_job(client: TestClient, finish_job: FinishJob) -> None:
    job_id = client.post("/v1/jobs", json={"video_url": "https://example.com/a.mp4"}).json()["id"]
    path = f"/v1/jobs/{job_id}/layers"
    assert client.get(path).json()["error"]["code"] == "invalid_state"
    finish_job(job_id, matte=True)
    layers = client.get(path).json()
    assert (layers["job_id"], layers["ready"], layers["items"]) == (job_id, False, [])
    assert client.get(path, params={"format": "txt"}).json()["error"]["code"] == "invalid_request"
    assert client.get("/v1/jobs/unknown/layers").status_code == 404
    export = client.post(f"/v1/jobs/{job_id}/exports", json={"format": "mov", "keep": ["s1"]}).json()
    assert (export["keep"], export["drop"]) == (["s1"], [])
