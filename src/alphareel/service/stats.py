"""How the service is doing, counted in the database, so that it is the same whichever process is asked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import TYPE_CHECKING

from alphareel.service.health import HealthMonitor

if TYPE_CHECKING:
    from alphareel.db.stats import StatsStore

WINDOW = timedelta(hours=1)
"""Wait, run time and speed are those of the jobs that were completed in this time."""


@dataclass(frozen=True)
class CompletedJob:
    """A job that was completed lately. Seconds from its start to its first worker, and from there to the end.

    ``stages``: seconds of work in each stage of the pipeline, which overlap.
    """

    waited: float
    ran: float
    frames: int
    stages: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class ServiceStats:
    """``jobs``: by status, deleted ones too. ``failures``: ended runs by error code, ever.

    ``oldest_seconds``: how long the longest waiting job waits; 0 when none does. ``webhooks``: by state.
    ``executors``: worker processes; the service counts those that beat.
    ``credits_charged``, ``credits_reserved``: hundredths, of all clients; the first for ever, the second now.
    """

    jobs: Mapping[str, int]
    failures: Mapping[str, int]
    oldest_seconds: float
    finished: Sequence[CompletedJob]
    webhooks: Mapping[str, int]
    executors: int
    credits_charged: int = 0
    credits_reserved: int = 0


@dataclass(frozen=True)
class StatsService:
    """Numbers for the metrics endpoint; workers as the health monitor sees them."""

    store: StatsStore
    health: HealthMonitor

    def collect(self) -> ServiceStats:
        """Raises Unavailable."""
        return replace(self.store.census(), executors=self.health.workers())
