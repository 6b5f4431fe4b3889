"""Statistics of the service, counted in the database, so that every process reports the same."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import TYPE_CHECKING

from alphareel.service.health import HealthMonitor

if TYPE_CHECKING:
    from alphareel.db.stats import StatsStore

WINDOW = timedelta(hours=1)
"""Waiting time, run time and speed are those of the jobs completed in this period."""


@dataclass(frozen=True)
class CompletedJob:
    """A job that was completed in the last hour. Times in seconds."""

    #: From its start until a worker took it.
    waited: float
    #: From then to its end.
    ran: float
    frames: int
    #: Work in each stage of the pipeline; stages overlap.
    stages: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class ServiceStats:
    """Statistics of all clients."""

    #: By status, deleted jobs included.
    jobs: Mapping[str, int]
    #: Failed runs by error code, since the beginning.
    failures: Mapping[str, int]
    #: How long the oldest pending job has waited; 0 when none waits.
    oldest_seconds: float
    finished: Sequence[CompletedJob]
    #: By state.
    webhooks: Mapping[str, int]
    #: Worker processes that send heartbeats.
    executors: int
    #: Hundredths of a credit, since the beginning.
    credits_charged: int = 0
    #: Hundredths of a credit, now.
    credits_reserved: int = 0


@dataclass(frozen=True)
class StatsService:
    """Statistics for the metrics endpoint; the health monitor counts the workers."""

    store: StatsStore
    health: HealthMonitor

    def collect(self) -> ServiceStats:
        """Raises Unavailable."""
        return replace(self.store.collect(), executors=self.health.workers())
