"""Tracks the progress of a run: counts frames and measures the work of each stage."""

import math
import time
from collections.abc import Sequence
from typing import Any

from alphareel.domain.clip import Chunk, Clip, Progress
from alphareel.imaging.frame import Frame
from alphareel.pipeline.threads import BackgroundConsumer, Prefetcher

_REPORT_SECONDS = 0.2
_MAX_SHARE = 0.99  # until the files are closed and verified


class ProgressTracker:
    """Progress of one run. ``preview`` (seconds) or ``chunk``: the part of the clip that the run processes.

    ``source_seconds``: the end of the latest frame, in seconds from the start of the clip.
    """

    def __init__(self, clip: Clip, preview: float | None, chunk: Chunk | None = None) -> None:
        self.done = 0
        self.source_seconds = 0.0
        self._clip = clip
        self._start = chunk.start if chunk else 0
        chunk_end = float(chunk.end * clip.time_base) if chunk and chunk.end else None
        end = chunk_end or clip.seconds
        self._max_source_seconds = preview or chunk_end or math.inf
        self._seconds = (min(end, preview) if preview else end) - float(self._start * clip.time_base)
        self._total = chunk.frames if chunk else _expected_frames(clip, self._seconds)
        self._share = 0.0
        self._began = time.perf_counter()
        self._reported = self._began

    def count(self, frame: Frame) -> bool:
        """Count a frame that was handed to the writers. Returns whether a report is due."""
        self.done += 1
        frame_end = float((frame.pts + frame.duration) * self._clip.time_base)
        self.source_seconds = min(frame_end, self._max_source_seconds)
        self._share = max(self._share, min(_MAX_SHARE, self._share_at(frame)))
        now = time.perf_counter()
        due = now - self._reported >= _REPORT_SECONDS or self.done == 1
        if due:
            self._reported = now
        return due

    def report(
        self, reading: Prefetcher[Any], matting: Prefetcher[Any], writers: Sequence[BackgroundConsumer[Any, Any]]
    ) -> Progress:
        """The current Progress. Its ``stages`` are seconds of work without the time spent waiting for other stages."""
        elapsed = max(1e-9, time.perf_counter() - self._began)
        remaining = elapsed * (1 - self._share) / self._share if self._share > 0 else None
        return Progress(
            done=self.done,
            total=max(self._total, self.done) if self._total else 0,
            share=self._share,
            seconds=elapsed,
            fps=self.done / elapsed,
            remaining_seconds=remaining,
            stages={
                "read": reading.spent,
                "matte": max(0.0, matting.spent - reading.waited),
                "write": max(writer.spent for writer in writers),
            },
            written=tuple(writer.consumed for writer in writers),
        )

    def _share_at(self, frame: Frame) -> float:
        if self._seconds > 0:
            return float((frame.pts + frame.duration - self._start) * self._clip.time_base) / self._seconds
        return self.done / self._total if self._total else 0.0


def _expected_frames(clip: Clip, seconds: float) -> int:
    if clip.frames and clip.seconds > 0:
        return round(clip.frames * seconds / clip.seconds)
    return clip.frames or round(seconds * clip.rate)
