"""``alphareel doctor --bundle``: what helps, and no secret."""

import json
import zipfile

import pytest

from alphareel.domain.options import Options
from alphareel.server.installation import open_installation
from alphareel.server.settings import load_settings
from alphareel.service.ports import NewJob

SECRETS = {
    "ALPHAREEL_API_KEY": "key-s3cr3t-word",
    "ALPHAREEL_ADMIN_TOKEN": "token-s3cr3t-word",
    "ALPHAREEL_WEBHOOK_SECRET": "hook-s3cr3t-word",
    "ALPHAREEL_WEBHOOK_SECRET_OLD": "old-s3cr3t-word",
    "ALPHAREEL_RATE_LIMIT_URL": "redis://me:redis-s3cr3t-word@127.0.0.1/0",
    "ALPHAREEL_PASWORD": "typo-s3cr3t-word",
    "AWS_SECRET_ACCESS_KEY": "aws-s3cr3t-word",
}


@pytest.fixture
def bundle(command, tmp_path, monkeypatch):
    monkeypatch.setenv("ALPHAREEL_DATA_DIR", str(tmp_path / "data"))
    for name, value in SECRETS.items():
        monkeypatch.setenv(name, value)
    with open_installation(load_settings()) as installation:
        job = NewJob(
            id="job_1", key_id=None, video_url="https://cdn.example.com/s3cr3t-word.mp4?token=s3cr3t-word",
            options=Options(text_prompt="s3cr3t-word"), webhook_url="https://me:s3cr3t-word@hook.example.com",
            metadata={"note": "s3cr3t-word"}, request_id="req_1", warnings=(),
        )  # fmt: skip
        installation.jobs.add_job(job, start=True, actor="test")
        error = "GET https://me:s3cr3t-word@cdn.example.com/a?sig=s3cr3t-word failed"
        installation.jobs.fail("job_1", attempt=None, error=error, error_code="fetch_failed", actor="test")
    path = tmp_path / "bundle.zip"
    _, out, _ = command("doctor", "--bundle", path)
    assert "Look at it before you send it" in out
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name).decode() for name in archive.namelist()}


def test_the_bundle_tells_versions_settings_and_failures(bundle):
    read = {name: json.loads(text) for name, text in bundle.items()}
    assert read["packages.json"]["alphareel"]
    assert "admin_token=set" in read["settings.json"]["settings"]
    assert read["settings.json"]["unknown"] == ["ALPHAREEL_PASWORD"]
    (failed,) = read["installation.json"]["latest_failures"]
    assert (failed["job"], failed["error_code"]) == ("job_1", "fetch_failed")
    assert "failed: fetch_failed" in failed["history"][-1]
    assert any(check["name"] == "model human" for check in read["checks.json"])


def test_the_bundle_has_no_secret_and_nothing_that_the_client_sent(bundle):
    for name, text in bundle.items():
        assert "s3cr3t-word" not in text, name
        assert "cdn.example.com/s3cr3t" not in text
