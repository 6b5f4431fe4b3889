"""Prometheus metrics: requests as this process saw them, everything else as the database knows it when asked."""

from collections.abc import Iterator, Mapping, Sequence

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from alphareel.domain.errors import Unavailable
from alphareel.service.stats import CompletedJob, ServiceStats, StatsService

CONTENT_TYPE = CONTENT_TYPE_LATEST

_BUCKETS = (0.005, 0.02, 0.1, 0.5, 1, 5, 15, 60, 300)
_SHARES = (0.5, 0.95)


class Metrics:
    """One registry per application. While the database is away only request metrics are reported."""

    def __init__(self, stats: StatsService) -> None:
        self._registry = CollectorRegistry()
        self._registry.register(_FromDatabase(stats))
        self._requests = Counter(
            "alphareel_http_requests", "Answered requests.", ("method", "route", "status"), registry=self._registry
        )
        self._seconds = Histogram(
            "alphareel_http_request_seconds",
            "Time to the end of the answer.",
            ("method", "route"),
            buckets=_BUCKETS,
            registry=self._registry,
        )

    def note(self, *, method: str, route: str, status: int, seconds: float) -> None:
        """Count a request; ``route`` has the names of parameters, never their values."""
        self._requests.labels(method, route, str(status)).inc()
        self._seconds.labels(method, route).observe(seconds)

    def text(self) -> bytes:
        """Everything, in the text format of Prometheus."""
        return generate_latest(self._registry)


class _FromDatabase(Collector):
    def __init__(self, stats: StatsService) -> None:
        self._stats = stats

    def describe(self) -> Iterator[Metric]:
        return iter(())  # registering must not read the database

    def collect(self) -> Iterator[Metric]:
        try:
            census = self._stats.collect()
        except Unavailable:
            yield _gauge("alphareel_database_up", "Whether the database answered.", 0)
            return
        yield _gauge("alphareel_database_up", "Whether the database answered.", 1)
        yield from _counts(census)
        yield from _times(census)


def _counts(census: ServiceStats) -> Iterator[Metric]:
    yield _by("alphareel_jobs", "Jobs by status, deleted ones included.", "status", census.jobs)
    yield _gauge("alphareel_queue_depth", "Jobs that wait for a worker.", census.jobs["pending"])
    yield _gauge("alphareel_queue_oldest_seconds", "How long the longest waiting job waits.", census.oldest_seconds)
    yield _gauge("alphareel_workers", "Worker processes that beat.", census.executors)
    yield _by("alphareel_webhooks", "Webhooks by state.", "state", census.webhooks)
    yield _gauge(
        "alphareel_credits_reserved", "Credits that waiting and running jobs hold.", census.credits_reserved / 100
    )
    charged = census.credits_charged / 100
    yield CounterMetricFamily("alphareel_credits_charged", "Credits that completed jobs cost.", value=charged)
    failures = CounterMetricFamily("alphareel_job_failures", "Failed runs by error code.", labels=["code"])
    for code, count in sorted(census.failures.items()):
        failures.add_metric([code], count)
    yield failures


def _times(census: ServiceStats) -> Iterator[Metric]:
    finished = census.finished
    yield _quantiles(
        "alphareel_job_wait_seconds", "From the start to a worker, last hour.", [f.waited for f in finished]
    )
    yield _quantiles("alphareel_job_run_seconds", "From a worker to the end, last hour.", [f.ran for f in finished])
    speeds = [f.frames / f.ran for f in finished if f.ran > 0]
    yield _quantiles("alphareel_job_frames_per_second", "Frames by time in the worker, last hour.", speeds)
    yield _stages(finished)


def _stages(finished: Sequence[CompletedJob]) -> Metric:
    """Seconds of work a job; the stages overlap, so that the slowest of them is what a job takes."""
    name, told = "alphareel_job_stage_seconds", "Work of a job in each stage, last hour."
    family = GaugeMetricFamily(name, told, labels=["stage", "quantile"])
    for stage in sorted({stage for job in finished for stage in job.stages}):
        for share, value in _shares([job.stages[stage] for job in finished if stage in job.stages]):
            family.add_metric([stage, share], value)
    return family


def _gauge(name: str, told: str, value: float) -> Metric:
    return GaugeMetricFamily(name, told, value=value)


def _by(name: str, told: str, label: str, values: Mapping[str, int]) -> Metric:
    family = GaugeMetricFamily(name, told, labels=[label])
    for key, value in sorted(values.items()):
        family.add_metric([key], value)
    return family


def _quantiles(name: str, told: str, values: Sequence[float]) -> Metric:
    family = GaugeMetricFamily(name, told, labels=["quantile"])
    for share, value in _shares(values):
        family.add_metric([share], value)
    return family


def _shares(values: Sequence[float]) -> list[tuple[str, float]]:
    """The median and what few exceed; nothing of nothing."""
    ordered = sorted(values)
    return [(str(s), ordered[min(len(ordered) - 1, int(s * len(ordered)))]) for s in _SHARES if ordered]
