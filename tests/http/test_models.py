"""GET /v1/models: engines, licenses and clip limits."""

import pytest

from alphareel.domain.options import TIERS
from alphareel.matting.models import birefnet, builtin
from alphareel.server.api_server import engine_status
from alphareel.service.jobs.estimate_service import EstimateService
from alphareel.service.jobs.estimates import Speed


@pytest.fixture
def models(client):
    client.app.state.context.list_engines = lambda: [
        engine_status(birefnet.INFO, serves=[], missing="No such file."),
        engine_status(builtin.INFO, serves=["original", "light", "human"], missing=None),
    ]
    return client.get("/v1/models").json()


def test_each_model_names_the_engine_that_serves_it(models):
    tiers = {item["model"]: item for item in models["items"]}
    assert list(tiers) == ["original", "light", "pro", "human"]
    original, pro = tiers["original"], tiers["pro"]
    assert (original["engine"], original["subject"], original["license"]) == ("builtin", "people", "Apache-2.0")
    assert (original["speed"], original["quality"]) == ("standard", "highest")
    assert (pro["available"], pro["engine"], pro["license"], pro["text_prompt"]) == (False, None, None, True)


def test_every_engine_tells_what_its_weights_were_trained_on(models):
    told = {e["name"]: e["training_data"] for e in models["engines"]}
    assert "Robust Video Matting" in told["builtin"]
    assert "research" in told["birefnet"]


def test_the_formats_that_can_be_written_here_are_listed(models):
    assert {"webm", "mov", "mp4", "gif", "png_sequence"} <= set(models["formats"])


def test_engines_that_are_missing_say_why(models):
    assert {e["name"]: e["missing"] for e in models["engines"]} == {"birefnet": "No such file.", "builtin": None}


@pytest.mark.parametrize("basis", ["measured", "typical"])
def test_pricing_also_shows_the_engine_and_speed_of_each_model(models, client, monkeypatch, basis):
    speeds = dict.fromkeys(TIERS, Speed(10 * 1920 * 1080, basis))
    monkeypatch.setattr(EstimateService, "speeds", lambda _: speeds)
    priced = client.get("/api/pricing").json()
    assert priced["models"] == client.get("/v1/models").json()["items"]
    assert priced["limits"] == models["limits"]
    original, _, pro, _ = priced["models"]
    assert (original["speed_basis"], original["full_hd_fps"]) == (basis, 10.0)
    assert (pro["speed_basis"], pro["full_hd_fps"]) == (None, None), "nothing serves it here"


def test_the_models_route_reports_the_clip_limits(models):
    assert models["limits"] == {"bytes": 500 * 1024 * 1024, "side": 4096, "seconds": 14400.0}
