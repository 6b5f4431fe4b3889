"""Examines files of clients in child processes: no process of the service decodes untrusted bytes."""

import math
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from alphareel.domain.clip import Limits
from alphareel.domain.errors import AlphareelError, BadVideo, OutOfMemory, Timeout, Unavailable, WorkerCrashed
from alphareel.machine import cores
from alphareel.service.uploads.models import MediaInfo
from alphareel.service.worker import child_process
from alphareel.service.worker.child_process import SPAWNED, Children, ResourceLimits
from alphareel.service.worker.tasks import InspectTask
from alphareel.telemetry.logging import get_logger

_PROBE_MEMORY = 4 * 1024**3
_OWN_WORK = 0.25  # of the time that a probe may take: one that computed less was kept waiting by this machine
_EXPORT_AGAIN = "Check that it plays, or export it again as MP4 (H.264)."
_EXAMINE_FETCHED = ResourceLimits(memory_bytes=4 * 1024**3, cpu_seconds=60, wall_seconds=120.0)
_examining_fetched = threading.BoundedSemaphore(max(2, cores()))


@dataclass(frozen=True)
class IsolatedInspection:
    """Identifies a file in a child process of its own. Raises BadVideo, also if the process breaks or takes too long.

    Raises Unavailable where that is not the file's fault: the process had little CPU time in its ``seconds``, or it
    and a second one were killed from outside.
    """

    limits: Limits
    seconds: float = 5.0
    children: Children = SPAWNED

    def __call__(self, path: Path) -> MediaInfo:
        task = InspectTask(path, self.limits)
        resource_limits = ResourceLimits(
            _PROBE_MEMORY, cpu_seconds=math.ceil(4 * self.seconds), wall_seconds=self.seconds
        )
        try:
            return _run_again_if_killed(task, resource_limits, self.children)
        except child_process.BudgetExceeded as error:
            if error.computed is not None and error.computed < _OWN_WORK * self.seconds:
                raise Unavailable(
                    "The server is too busy to examine the file.", hint="Send it again.", retry_after=self.seconds
                ) from error
            message = f"The file cannot be examined within {self.seconds:g} seconds."
            raise BadVideo(message, hint=_EXPORT_AGAIN) from error
        except (OutOfMemory, Timeout, WorkerCrashed) as error:
            raise BadVideo("The file cannot be examined.", hint=_EXPORT_AGAIN) from error


def _run_again_if_killed(task: InspectTask, resource_limits: ResourceLimits, children: Children) -> MediaInfo:
    for _ in range(2):
        try:
            return child_process.run(task, resource_limits, children=children)
        except child_process.Killed as error:
            killed = error
        except OSError as error:
            raise Unavailable(
                "The server cannot start a process to examine the file.", hint="Send it again."
            ) from error
    raise Unavailable("The inspection of the file was interrupted.", hint="Send it again.") from killed


@dataclass(frozen=True)
class IsolatedFetchInspection:
    """Examines a fetched file, with longer limits than for an upload, because no request waits for it.

    Only a file that exceeds them is refused, before it occupies a job. All other errors are left to the job, which
    reports them.
    """

    limits: Limits
    children: Children = SPAWNED

    def __call__(self, path: Path, tick: Callable[[], None]) -> None:
        task = InspectTask(path, self.limits)
        while not _examining_fetched.acquire(timeout=0.5):
            tick()
        try:
            child_process.run(task, _EXAMINE_FETCHED, tick=lambda _: tick(), children=self.children)
        except Timeout as error:
            raise BadVideo(
                f"The file could not be examined within {_EXAMINE_FETCHED.wall_seconds:g} seconds.",
                hint="Check that it plays, or export it again as MP4 (H.264).",
            ) from error
        except AlphareelError as error:
            get_logger(__name__).info("fetched file left to its job", error=str(error))
        finally:
            _examining_fetched.release()
