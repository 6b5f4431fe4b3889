"""Prometheus metrics: requests, and database statistics at the time of the scrape."""

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, Histogram, generate_latest, values
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.registry import Collector

from alphareel.domain.errors import Unavailable
from alphareel.service.stats import CompletedJob, ServiceStats, StatsService
from alphareel.service.worker.spare_usage import SpareUsage

CONTENT_TYPE = CONTENT_TYPE_LATEST

_BUCKETS = (0.005, 0.02, 0.1, 0.5, 1, 5, 15, 60, 300)
_QUANTILES = (0.5, 0.95)
SERVER_FAULTS = (
    "internal_error",
    "out_of_memory",
    "storage_failed",
    "timeout",
    "verification_failed",
    "worker_crashed",
)
"""Error codes of runs that are reported from the start, as 0: Prometheus sees no increase in the first value of a
series, so that the first burst of failures would raise no alert."""


class Metrics:
    """One registry per application. While the database is down, only request metrics are reported.

    ``shared``: folder in which request processes count together (``share_counts``); None for this process alone.
    """

    def __init__(
        self,
        stats: StatsService,
        *,
        shared: Path | None = None,
        spares: Callable[[], SpareUsage | None] = lambda: None,
    ) -> None:
        self._registry = CollectorRegistry()
        self._shown = self._registry
        if shared is not None:
            self._shown = CollectorRegistry()
            MultiProcessCollector(self._shown, str(shared))  # type: ignore[no-untyped-call]
        self._shown.register(_DatabaseCollector(stats))
        self._shown.register(_SpareCollector(spares))
        self._requests = Counter(
            "alphareel_http_requests", "HTTP requests.", ("method", "route", "status"), registry=self._registry
        )
        self._seconds = Histogram(
            "alphareel_http_request_seconds",
            "Time until the response was complete.",
            ("method", "route"),
            buckets=_BUCKETS,
            registry=self._registry,
        )

    def observe_request(self, *, method: str, route: str, status: int, seconds: float) -> None:
        """Count a request; ``route`` has the names of parameters, never their values."""
        self._requests.labels(method, route, str(status)).inc()
        self._seconds.labels(method, route).observe(seconds)

    def text(self) -> bytes:
        """All metrics in the Prometheus text format."""
        return generate_latest(self._shown)


def share_counts(folder: Path, process: str) -> None:
    """Count requests in files of this folder; call before the first Metrics of the process.

    The files are named after the process, so that its replacement continues the counts.
    """
    folder.mkdir(parents=True, exist_ok=True)
    os.environ["PROMETHEUS_MULTIPROC_DIR"] = str(folder)  # prometheus_client takes it from here alone
    values.ValueClass = values.MultiProcessValue(lambda: process)  # type: ignore[no-untyped-call]


class _DatabaseCollector(Collector):
    def __init__(self, stats: StatsService) -> None:
        self._stats = stats

    def describe(self) -> Iterator[Metric]:
        return iter(())  # registering must not read the database

    def collect(self) -> Iterator[Metric]:
        try:
            stats = self._stats.collect()
        except Unavailable:
            yield _gauge("alphareel_database_up", "Whether the database responded.", 0)
            return
        yield _gauge("alphareel_database_up", "Whether the database responded.", 1)
        yield from _counts(stats)
        yield from _durations(stats)


class _SpareCollector(Collector):
    def __init__(self, usage: Callable[[], SpareUsage | None]) -> None:
        self._usage = usage

    def collect(self) -> Iterator[Metric]:
        if (usage := self._usage()) is not None:
            yield _gauge("alphareel_spares", "Child processes that wait for a job.", usage.count)
            yield _gauge("alphareel_spare_memory_bytes", "Memory that they hold for themselves.", usage.memory_bytes)


def _counts(stats: ServiceStats) -> Iterator[Metric]:
    yield _labeled("alphareel_jobs", "Jobs by status, deleted ones included.", "status", stats.jobs)
    yield _gauge("alphareel_queue_depth", "Jobs waiting for a worker.", stats.jobs["pending"])
    yield _gauge("alphareel_queue_oldest_seconds", "Time that the oldest queued job has waited.", stats.oldest_seconds)
    yield _gauge("alphareel_workers", "Live worker processes.", stats.executors)
    yield _labeled("alphareel_webhooks", "Webhooks by state.", "state", stats.webhooks)
    yield _gauge(
        "alphareel_credits_reserved", "Credits reserved for waiting and running jobs.", stats.credits_reserved / 100
    )
    charged = stats.credits_charged / 100
    yield CounterMetricFamily(
        "alphareel_credits_charged", "Credits charged for all runs since the beginning.", value=charged
    )
    failures = CounterMetricFamily("alphareel_job_failures", "Failed runs by error code.", labels=["code"])
    for code, count in sorted((dict.fromkeys(SERVER_FAULTS, 0) | dict(stats.failures)).items()):
        failures.add_metric([code], count)
    yield failures


def _durations(stats: ServiceStats) -> Iterator[Metric]:
    completed = stats.finished
    yield _quantiles(
        "alphareel_job_wait_seconds", "From the start to a worker, last hour.", [job.waited for job in completed]
    )
    yield _quantiles(
        "alphareel_job_run_seconds", "From a worker to the end, last hour.", [job.ran for job in completed]
    )
    speeds = [job.frames / job.ran for job in completed if job.ran > 0]
    yield _quantiles("alphareel_job_frames_per_second", "Frames by time in the worker, last hour.", speeds)
    yield _stages(completed)


def _stages(completed: Sequence[CompletedJob]) -> Metric:
    """Work seconds per job and stage; the stages overlap, so the slowest one determines the run time."""
    name, description = "alphareel_job_stage_seconds", "Work of a job in each stage, last hour."
    family = GaugeMetricFamily(name, description, labels=["stage", "quantile"])
    for stage in sorted({stage for job in completed for stage in job.stages}):
        for quantile, value in _quantile_values([job.stages[stage] for job in completed if stage in job.stages]):
            family.add_metric([stage, quantile], value)
    return family


def _gauge(name: str, description: str, value: float) -> Metric:
    return GaugeMetricFamily(name, description, value=value)


def _labeled(name: str, description: str, label: str, values: Mapping[str, int]) -> Metric:
    family = GaugeMetricFamily(name, description, labels=[label])
    for key, value in sorted(values.items()):
        family.add_metric([key], value)
    return family


def _quantiles(name: str, description: str, values: Sequence[float]) -> Metric:
    family = GaugeMetricFamily(name, description, labels=["quantile"])
    for quantile, value in _quantile_values(values):
        family.add_metric([quantile], value)
    return family


def _quantile_values(values: Sequence[float]) -> list[tuple[str, float]]:
    """The values at _QUANTILES; empty without values."""
    ordered = sorted(values)
    return [(str(s), ordered[min(len(ordered) - 1, int(s * len(ordered)))]) for s in _QUANTILES if ordered]
