"""The shipped dashboard and alerts use only metrics, labels and error codes that exist."""

import json
import re
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from alphareel.domain.clip import EngineFacts
from alphareel.http.errors import STATUS
from alphareel.service.jobs.models import Output

ROOT = Path(__file__).parents[2]
FILES = [ROOT / "deploy/grafana/alphareel.json", ROOT / "deploy/prometheus/alerts.yml"]
VIDEO = {"video_url": "https://a.example/v.mp4", "webhook_url": "https://a.example/hook"}


@pytest.fixture
def samples(make_client, harness, new_key):
    """Name -> labels of everything that /metrics tells once a job has failed and another was completed."""
    client = make_client(access={"metrics_open": True})
    ids = [client.post("/v1/jobs", json=VIDEO).json()["id"] for _ in range(2)]
    running = [harness.jobs.begin_attempt(i, ticket=1, actor="worker") for i in ids]
    stages = {"read": 1.0, "matte": 2.0, "write": 1.5}
    output = Output("o", "webm", "video/webm", 9, "ab" * 32, 64, 48, 10, 2.0, True, False, stages=stages)
    facts = EngineFacts("builtin", "1", "2" * 64, "Apache-2.0")
    harness.clock.advance(seconds=5)
    harness.jobs.complete(ids[0], attempt=running[0].attempt, output=output, engine=facts, warnings=(), actor="worker")
    harness.jobs.fail(ids[1], attempt=None, error="Broken", error_code="bad_video", actor="worker")
    text = client.get("/metrics").text
    return {
        sample.name: set(sample.labels) for family in text_string_to_metric_families(text) for sample in family.samples
    }


@pytest.mark.parametrize("path", FILES, ids=lambda p: p.name)
def test_every_metric_and_label_that_it_names_exists(path, samples):
    text = path.read_text().replace('\\"', '"')
    named = set(re.findall(r"\balphareel_[a-z_]+", text))
    assert named <= set(samples)
    for name, matchers in re.findall(r"\b(alphareel_[a-z_]+)\{([^}]*)\}", text):
        labels = set(re.findall(r"(\w+)\s*=", matchers)) - {"instance"}
        assert labels <= samples[name], name


def test_the_dashboard_shows_every_metric(samples):
    text = FILES[0].read_text()
    left_out = {
        name for name in samples if name.startswith("alphareel_") and not name.endswith(("_created", "_sum", "_count"))
    }
    assert [name for name in left_out if name not in text] == []


def test_the_dashboard_can_be_imported_anywhere():
    board = json.loads(FILES[0].read_text())
    assert board["uid"] == "alphareel"
    assert len({panel["id"] for panel in board["panels"]}) == len(board["panels"])
    sources = {panel["datasource"]["uid"] for panel in board["panels"] if "datasource" in panel}
    assert sources == {"${datasource}"}, "no Grafana has ours by its name"


def test_alerts_name_codes_of_errors_that_exist():
    [codes] = re.findall(r'code=~"([a-z_|]+)"', FILES[1].read_text())
    assert set(codes.split("|")) <= {kind.code for kind in STATUS}


def test_every_alert_is_explained():
    page = (ROOT / "docs/operate.md").read_text()
    alerts = re.findall(r"alert: (\w+)", FILES[1].read_text())
    assert [name for name in alerts if f"`{name}`" not in page] == []


def test_every_metric_is_explained(samples):
    page = (ROOT / "docs/operate.md").read_text()
    families = {re.sub(r"_(bucket|count|sum|created)$", "", name) for name in samples} - {"alphareel_http_requests"}
    assert [name for name in families if name.startswith("alphareel_") and f"`{name}`" not in page] == []
