"""JSON log lines with their context and without secrets."""

import io
import json
import logging
from collections.abc import Iterator
from typing import Any

import pytest

from alphareel.telemetry.logging import configure_logging, current_context, get_logger, hide_secret, log_context

KEY = "ar_live_3c666a0be32d_1wt13hCeI9SaJIVlQPxatE1anPRm70pyZBRHzByq1wx"


@pytest.fixture
def lines() -> Iterator[Any]:
    root = logging.getLogger()
    before, level = list(root.handlers), root.level
    stream = io.StringIO()
    configure_logging("info", stream=stream)
    yield lambda: [json.loads(line) for line in stream.getvalue().splitlines()]
    root.handlers[:] = before
    root.setLevel(level)


def test_a_log_line_has_event_fields_level_logger_and_utc_time(lines: Any) -> None:
    get_logger("alphareel.x").info("job moved", job_id="job_1", attempt=2)
    (line,) = lines()
    assert (line["event"], line["job_id"], line["attempt"], line["level"], line["logger"]) == (
        "job moved", "job_1", 2, "info", "alphareel.x",
    )  # fmt: skip
    assert line["timestamp"].endswith("Z")


def test_log_context_is_added_to_the_lines_of_every_library(lines: Any) -> None:
    with log_context(request_id="req_1", job_id=None):
        get_logger("alphareel.x").info("ours")
        logging.getLogger("theirs").warning("%s said", "library")
        assert current_context("request_id") == "req_1"
    get_logger("alphareel.x").info("after")
    ours, theirs, after = lines()
    assert ours["request_id"] == theirs["request_id"] == "req_1"
    assert theirs["event"] == "library said"
    assert "request_id" not in after
    assert "job_id" not in ours


@pytest.mark.parametrize(
    "fields",
    [
        {"api_key": "abcdefgh"},
        {"X-Api-Key": "abcdefgh"},
        {"headers": {"x-api-key": "abcdefgh", "Authorization": "Bearer abcdefgh"}},
        {"items": [{"secret": "abcdefgh"}]},
        {"url": "https://host/files/a.webm?exp=1&name=b&sig=abcdefgh"},
        {"url": "postgresql://user:abcdefgh@host/db"},
        {"error": "PUT https://b.s3.example/o?X-Amz-Credential=abcdefgh%2F1&X-Amz-Signature=abcdefgh&x=1 failed"},
        {"error": "PUT /o?X-Amz-Security-Token=abcdefgh failed"},
        {"error": "PUT https://storage.example/o?X-Goog-Signature=abcdefgh"},
        {"message": "the token ar_runner_0123456789_abcdefghabcdefghabcdefgh was used"},
        {"message": "the hidden-value-abcdefgh was used"},
    ],
)
def test_a_secret_is_redacted_from_every_field(fields: dict[str, Any], lines: Any) -> None:
    hide_secret("hidden-value-abcdefgh")
    get_logger("alphareel.x").info("something", **{"text": KEY, **fields})
    (line,) = lines()
    assert "abcdefgh" not in json.dumps(line)
    assert KEY not in json.dumps(line)


def test_a_secret_is_redacted_from_tracebacks_and_lines_of_other_libraries(lines: Any) -> None:
    try:
        int(KEY)
    except ValueError:
        get_logger("alphareel.x").exception("failed")
    logging.getLogger("theirs").error("got %s", KEY)
    assert all(KEY not in json.dumps(line) for line in lines())
    assert "ValueError" in lines()[0]["exception"]


def test_redaction_keeps_the_rest_of_a_url(lines: Any) -> None:
    get_logger("alphareel.x").info("got", url="https://host/files/a.webm?exp=1&name=b&sig=abcdefgh")
    assert lines()[0]["url"] == "https://host/files/a.webm?exp=1&name=b&sig=[signature]"
    get_logger("alphareel.x").info(
        "got", table="ar_runner_tasks_pkey", url="https://b/o?X-Amz-Date=1&X-Amz-Signature=f"
    )
    assert lines()[1]["table"] == "ar_runner_tasks_pkey"
    assert lines()[1]["url"] == "https://b/o?X-Amz-Date=1&X-Amz-Signature=[signature]"


def test_an_unconfigured_logger_prints_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    get_logger("alphareel.quiet").info("nobody asked")
    assert capsys.readouterr() == ("", "")
