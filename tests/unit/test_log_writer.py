"""Log lines are written in order by a thread of their own, and dropped and counted when nobody reads them."""

import json
import logging
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from alphareel.telemetry.log_writer import FLUSH_SECONDS, LogWriter
from alphareel.telemetry.logging import configure_service_logging, get_logger


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    read_end, write_end = os.pipe()
    yield read_end, write_end
    os.set_blocking(read_end, False)
    os.close(read_end)  # a writer that waits gets an error


def record(text: str) -> logging.LogRecord:
    return logging.makeLogRecord({"msg": text})


def read_until(descriptor: int, found: bytes) -> bytes:
    text = b""
    while found not in text:
        text += os.read(descriptor, 65536)
    return text


def written(text: bytes, event: str) -> list[dict[str, Any]]:
    """The whole lines with this event."""
    lines = [json.loads(line) for line in text.splitlines(keepends=True) if line.endswith(b"\n")]
    return [line for line in lines if line["event"] == event]


def test_lines_are_written_in_order(pipe: tuple[int, int]) -> None:
    writer = LogWriter(pipe[1])
    for number in range(200):
        writer.handle(record(str(number)))
    writer.flush()
    assert os.read(pipe[0], 65536).decode().split() == list(map(str, range(200)))


def test_lines_that_nobody_reads_are_dropped_and_counted(pipe: tuple[int, int]) -> None:
    writer = LogWriter(pipe[1], max_bytes=10_000)
    begun = time.monotonic()
    for _ in range(100):
        writer.handle(record("x" * 999))  # more than pipe and queue hold
    writer.flush()
    assert time.monotonic() - begun < FLUSH_SECONDS + 10
    text = read_until(pipe[0], b"log lines dropped")  # there is room from then on
    writer.handle(record("again"))
    text += read_until(pipe[0], b"again")
    assert 10 <= text.count(b"x" * 999) < 100


def test_the_service_says_how_many_lines_are_missing(pipe: tuple[int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    root = logging.getLogger()
    before = list(root.handlers), root.level
    monkeypatch.setattr("alphareel.telemetry.log_writer.MAX_PENDING_BYTES", 10_000)
    with os.fdopen(os.dup(pipe[1]), "w") as stream:
        monkeypatch.setattr("sys.stderr", stream)
        configure_service_logging("info")
        try:
            for number in range(150):
                get_logger("alphareel.x").info("said", number=number, text="x" * 900)
            text = read_until(pipe[0], b"log lines dropped")
            while len(written(text, "said")) + sum(line["lines"] for line in written(text, "log lines dropped")) < 150:
                get_logger("alphareel.x").info("again")  # lines are counted as dropped after the next one
                text += read_until(pipe[0], b"\n")
        finally:
            root.handlers[:], root.level = before
    told = written(text, "log lines dropped")
    assert {line["level"] for line in told} == {"warning"}
    assert len(written(text, "said")) + sum(line["lines"] for line in told) == 150


def test_a_reader_that_is_gone_stops_nobody() -> None:
    read_end, write_end = os.pipe()
    os.close(read_end)
    writer = LogWriter(write_end)
    writer.handle(record("lost"))
    writer.flush()
    os.close(write_end)


def test_a_full_disk_costs_only_the_lines_that_it_had_no_room_for() -> None:
    if not Path("/dev/full").exists():
        pytest.skip("no /dev/full")
    descriptor = os.open("/dev/full", os.O_WRONLY)
    writer = LogWriter(descriptor)
    for _ in range(3):
        writer.handle(record("lost"))
    writer.flush()
    os.close(descriptor)
