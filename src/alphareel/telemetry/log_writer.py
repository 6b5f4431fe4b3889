"""Writes log lines from a thread of its own, so that a reader that stops holds up nobody who logs."""

import logging
import os
import select
import threading
from collections import deque

MAX_PENDING_BYTES = 4 * 1024 * 1024
FLUSH_SECONDS = 1.0
_WAIT_SECONDS = 1.0


class LogWriter(logging.Handler):
    """Queues lines for ``descriptor``. Drops lines while ``max_bytes`` wait, and logs later how many.

    ``flush`` waits for the queue at most FLUSH_SECONDS. Each line is one write, so that processes can share a pipe.
    The standard library's QueueListener bounds records, not bytes, and at exit waits for its thread without a limit.
    """

    def __init__(self, descriptor: int, *, max_bytes: int | None = None) -> None:
        super().__init__()
        self._descriptor = descriptor
        self._max_bytes = MAX_PENDING_BYTES if max_bytes is None else max_bytes
        self._lines: deque[bytes] = deque()
        self._pending_bytes = 0  # also of the line that is being written
        self._dropped = 0
        self._changed = threading.Condition()
        threading.Thread(target=self._run, name="log-writer", daemon=True).start()

    def emit(self, record: logging.LogRecord) -> None:
        try:
            line = self._encode(record)
        except Exception:  # noqa: BLE001  # as handlers of the standard library do
            self.handleError(record)
            return
        with self._changed:
            if self._pending_bytes + len(line) > self._max_bytes:
                self._dropped += 1
                return
            self._lines.append(line)
            self._pending_bytes += len(line)
            self._changed.notify_all()

    def flush(self) -> None:
        with self._changed:
            self._changed.wait_for(lambda: not self._pending_bytes, FLUSH_SECONDS)

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._lines)
                line = self._lines.popleft()
            is_written = self._write(line)
            if is_written:
                self._report_dropped()
            with self._changed:
                self._pending_bytes -= len(line)
                self._dropped += not is_written
                self._changed.notify_all()

    def _report_dropped(self) -> None:
        """Say how many lines are missing, once there is room again."""
        with self._changed:
            if not self._dropped or self._pending_bytes > self._max_bytes // 2:
                return
            dropped, self._dropped = self._dropped, 0
        facts = {"name": __name__, "levelno": logging.WARNING, "levelname": "WARNING", "msg": "log lines dropped"}
        record = logging.makeLogRecord({**facts, "fields": {"lines": dropped}})
        if not self._write(self._encode(record)):
            with self._changed:
                self._dropped += dropped

    def _encode(self, record: logging.LogRecord) -> bytes:
        return f"{self.format(record)}\n".encode(errors="backslashreplace")

    def _write(self, line: bytes) -> bool:
        """Write the line however long it takes; whether that was possible."""
        while line:
            try:
                line = line[os.write(self._descriptor, line) :]
            except BlockingIOError:  # somebody made it non-blocking
                select.select((), (self._descriptor,), (), _WAIT_SECONDS)
            except OSError:  # nobody reads it any more, or its disk is full
                return False
        return True
