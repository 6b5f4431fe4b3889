"""Whether this machine can store files at the moment, and waiting until it can."""

from __future__ import annotations

import os
import shutil
import threading

from alphareel.domain.errors import AlphareelError, StorageFailed
from alphareel.service.ports import Blobs
from alphareel.service.settings import StorageSettings
from alphareel.telemetry.logging import get_logger

_POLL_SECONDS = 2.0
_MIN_FREE = 1024 * 1024


class StoragePause:
    """Keeps jobs from failing one after the other while the storage is away, full or read-only.

    A worker that goes on meanwhile would take every job of the queue and fail it.
    """

    def __init__(self, blobs: Blobs, settings: StorageSettings) -> None:
        self._blobs = blobs
        self._settings = settings
        self._draining = threading.Event()

    def is_to_blame(self, error_code: str) -> bool:
        """Whether a job failed with this code because nothing can be stored, and not for a reason of its own."""
        return error_code == StorageFailed.code and not self._is_ready()

    def wait(self) -> None:
        """Until files can be stored, or the worker stops."""
        get_logger(__name__).error("jobs wait for the storage")
        while not self._draining.wait(_POLL_SECONDS):
            if self._is_ready():
                get_logger(__name__).info("storage can be written again")
                return

    def drain(self) -> None:
        """Let nothing wait from now on: the worker is about to stop."""
        self._draining.set()

    def _is_ready(self) -> bool:
        work = self._settings.work if self._settings.work.exists() else self._settings.data_dir
        try:
            stored, least = self._blobs.free(), max(self._settings.min_free_bytes, _MIN_FREE)
            is_full = shutil.disk_usage(work).free < least or (stored is not None and stored < least)
            return self._blobs.is_ready() and os.access(work, os.W_OK | os.X_OK) and not is_full
        except (AlphareelError, OSError):
            return False
