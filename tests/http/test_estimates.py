"""POST /v1/estimate: estimates from prices and past jobs."""

import pytest

from alphareel.db.stats import RunHistory
from alphareel.domain.clip import EngineFacts
from alphareel.domain.errors import ModelUnavailable
from alphareel.service.api_keys.admin import Operator
from alphareel.service.jobs.models import Output
from alphareel.service.uploads.models import MediaInfo
from alphareel.testing.fakes import TINY_MP4

SOURCE = {"seconds": 60, "width": 1000, "height": 500, "frame_rate": 20}
PIXELS = 60 * 20 * 1000 * 500
# Two seconds to start; a frame costs as much as its pixels and 1.5 million more, and 100 of a million took ten seconds.
WORK_SECONDS = 2 + 10 * (60 * 20 * (1000 * 500 + 1_500_000)) / (100 * (1_000_000 + 1_500_000))


VIDEO = {"video_url": "https://a.example/v.mp4"}


def estimate(client, **body):
    response = client.post("/v1/estimate", json={**VIDEO, **body})
    assert response.status_code == 200, response.text
    return response.json()


def refusal(client, **body):
    response = client.post("/v1/estimate", json=body)
    return response.status_code, [d["field"] for d in response.json()["error"]["details"]]


@pytest.fixture
def past(client, harness):
    """A job of the model ``light`` that took 12 seconds for 100 million pixels and made 5 million bytes of GIF."""
    body = {"video_url": "https://a.example/v.mp4", "model": "light", "output_format": "gif"}
    job = client.post("/v1/jobs", json=body).json()
    harness.jobs.begin_attempt(job["id"], ticket=1, actor="worker")
    harness.clock.advance(seconds=12)
    output = Output("o", "gif", "image/gif", 5_000_000, "ab", 1000, 1000, 100, 5.0, True, False)
    facts = EngineFacts("builtin", "1", None, "Apache-2.0")
    harness.jobs.complete(job["id"], attempt=1, output=output, engine=facts, warnings=(), actor="worker")


def test_an_estimate_for_a_described_video_is_complete_and_creates_nothing(client, monkeypatch):
    monkeypatch.setattr(
        RunHistory, "latest_runs", lambda *_, **__: []
    )  # other tests of the service finish jobs at once
    result = estimate(client, model="human", output_format="mp4", bg_type="green", source=SOURCE)
    assert (result["credits"], result["pricing_version"], result["video_seconds"], result["frames"]) == (
        45,
        "1",
        60,
        1200,
    )
    assert result["work_seconds"] > 2
    assert result["output_bytes"] > 0
    assert (result["charged"], result["affordable"], result["notes"]) == (False, True, [])
    assert client.get("/v1/jobs").json()["total"] == 0


def test_an_estimate_of_a_preview_covers_only_the_preview(client):
    result = estimate(client, source=SOURCE, preview_duration=3)
    assert (result["credits"], result["video_seconds"], result["frames"]) == (3, 3, 60)


def test_an_estimate_for_an_upload_needs_no_description(client, harness, monkeypatch):
    known = MediaInfo("video", "video/mp4", "mp4", 10.0, 640, 360, 25.0)
    monkeypatch.setattr(harness.services.uploads, "_inspect_media", lambda _: known)
    url = client.post("/v1/uploads", files={"file": ("a.mp4", TINY_MP4 + b"known")}).json()["video_url"]
    result = estimate(client, video_url=url, source={"seconds": 1})
    assert (result["credits"], result["frames"], result["notes"]) == (10, 250, [])


def test_an_estimate_for_a_url_notes_what_is_unknown(client):
    result = estimate(client)
    assert (result["credits"], result["work_seconds"], result["output_bytes"], result["affordable"]) == (None,) * 4
    assert [note.split(" is ")[0] for note in result["notes"]] == [
        "The length of the video",
        "The size of the picture",
        "The frame rate",
    ]


def test_speed_and_size_are_those_of_the_server_s_own_jobs(client, past):
    result = estimate(client, model="light", output_format="gif", source=SOURCE)
    assert (result["speed_basis"], result["size_basis"]) == ("measured", "measured")
    assert result["work_seconds"] == pytest.approx(WORK_SECONDS, abs=0.1)
    assert result["output_bytes"] == PIXELS * 0.05


def test_a_format_without_jobs_takes_the_speed_of_the_model(client, past):
    result = estimate(client, model="light", output_format="png_sequence", source=SOURCE)
    assert (result["speed_basis"], result["size_basis"]) == ("measured", "typical")


def test_a_canvas_changes_the_estimated_size_but_not_the_work(client, past):
    canvas = {"canvas": {"width": 2000, "height": 500}}
    result = estimate(client, model="light", output_format="gif", source=SOURCE, composition=canvas)
    assert (result["work_seconds"], result["output_bytes"]) == (pytest.approx(WORK_SECONDS, abs=0.1), PIXELS * 2 * 0.05)


def test_an_estimate_says_whether_the_balance_suffices(client, harness, key):
    owner = harness.keys.authenticate(key).client_id
    harness.services.admin.grant(Operator("test"), client_id=owner, amount=59.99, start_charging=True)
    result = estimate(client, source=SOURCE)
    assert (result["credits"], result["charged"], result["affordable"]) == (60, True, False)
    assert estimate(client, source={**SOURCE, "seconds": 59})["affordable"] is True


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "video_url"),
        ({**VIDEO, "source": 5}, "source"),
        ({**VIDEO, "source": {"seconds": -1}}, "source"),
        ({**VIDEO, "source": {"width": True}}, "source"),
        ({**VIDEO, "source": SOURCE, "model": "huge"}, "model"),
        ({**VIDEO, "retention_seconds": -1}, "retention_seconds"),
        ({"video_url": "ftp://a/b"}, "video_url"),
    ],
)
def test_a_bad_field_is_named(client, body, field):
    assert refusal(client, **body) == (400, [field])


def test_an_estimate_for_an_unavailable_model_is_refused_like_a_job(client, harness, monkeypatch):
    monkeypatch.setattr(harness.capabilities, "error", ModelUnavailable("No engine."))
    assert client.post("/v1/estimate", json=VIDEO).json()["error"]["code"] == "model_unavailable"
