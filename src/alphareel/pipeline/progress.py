"""How far a run has come: counts frames, and turns clocks into Progress. Knows neither codecs nor networks."""

import math
import time
from collections.abc import Sequence
from typing import Any

from alphareel.domain.clip import Chunk, Clip, Progress
from alphareel.imaging.frame import Frame
from alphareel.pipeline.threads import BackgroundConsumer, Prefetcher

_REPORT_SECONDS = 0.2
_NEARLY = 0.99  # what is left is closing and verifying the files


class ProgressTracker:
    """One run's progress; ``preview``, in seconds, or ``chunk`` limit what counts as the whole.

    ``source_seconds``: where the latest frame ends, counted from the start of the clip.
    """

    def __init__(self, clip: Clip, preview: float | None, chunk: Chunk | None = None) -> None:
        self.done = 0
        self.source_seconds = 0.0
        self._clip = clip
        self._start = chunk.start if chunk else 0
        end = float(chunk.end * clip.time_base) if chunk and chunk.end else clip.seconds
        self._until = preview or (float(chunk.end * clip.time_base) if chunk and chunk.end else math.inf)
        self._seconds = (min(end, preview) if preview else end) - float(self._start * clip.time_base)
        self._total = chunk.frames if chunk else _expected_frames(clip, self._seconds)
        self._share = 0.0
        self._began = time.perf_counter()
        self._reported = self._began

    def count(self, frame: Frame) -> bool:
        """Note a frame on its way to the outputs; True when it is time for a report."""
        self.done += 1
        self.source_seconds = min(float((frame.pts + frame.duration) * self._clip.time_base), self._until)
        self._share = max(self._share, min(_NEARLY, self._share_at(frame)))
        now = time.perf_counter()
        due = now - self._reported >= _REPORT_SECONDS or self.done == 1
        if due:
            self._reported = now
        return due

    def report(
        self, reading: Prefetcher[Any], matting: Prefetcher[Any], writers: Sequence[BackgroundConsumer[Any, Any]]
    ) -> Progress:
        """Progress now; stages in seconds of work, waiting for each other not counted."""
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
            written=tuple(writer.taken for writer in writers),
        )

    def _share_at(self, frame: Frame) -> float:
        if self._seconds > 0:
            return float((frame.pts + frame.duration - self._start) * self._clip.time_base) / self._seconds
        return self.done / self._total if self._total else 0.0


def _expected_frames(clip: Clip, seconds: float) -> int:
    if clip.frames and clip.seconds > 0:
        return round(clip.frames * seconds / clip.seconds)
    return clip.frames or round(seconds * clip.rate)
