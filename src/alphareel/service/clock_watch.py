"""Notices that the clock of the machine was set: it moved by something else than the time since the machine's start."""

import time
from collections.abc import Callable
from datetime import timedelta

from alphareel.service.ports import Clock
from alphareel.telemetry.logging import get_logger

_TOLERANCE = 2.0  # seconds: NTP corrects less than that by running faster or slower
_DOUBTFUL_STEP = 300.0
_DOUBT = 3600.0


def _since_start() -> float:
    """Seconds, including those in which the machine was suspended."""
    return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))


class ClockWatch:
    """``since_start``: seconds that nobody can set. For one thread."""

    def __init__(self, clock: Clock, *, since_start: Callable[[], float] = _since_start) -> None:
        self._clock = clock
        self._since_start = since_start
        self._offset = self._current_offset()
        self._ahead = 0.0
        self._set_ahead_at: float | None = None

    def step(self) -> timedelta:
        """How far the clock was set since the last call; negative when it was set back."""
        step = self._current_offset() - self._offset
        if abs(step) < _TOLERANCE:
            return timedelta()
        self._offset += step
        self._note(step)
        return timedelta(seconds=step)

    def is_doubtful(self) -> bool:
        """Whether the clock was set ahead by more than five minutes in the last hour and not set back since."""
        self.step()
        if self._set_ahead_at is not None and self._since_start() - self._set_ahead_at > _DOUBT:
            self._ahead, self._set_ahead_at = 0.0, None
        return self._set_ahead_at is not None

    def _note(self, step: float) -> None:
        get_logger(__name__).warning("the clock was set", seconds=round(step))
        self._ahead = max(0.0, self._ahead + step)
        if self._ahead < _DOUBTFUL_STEP:
            self._set_ahead_at = None
        elif step > 0:
            self._set_ahead_at = self._since_start()

    def _current_offset(self) -> float:
        return self._clock.now().timestamp() - self._since_start()
