"""Fakes of the ports, and a whole service in one folder and process: fast, and as strict as the real adapters."""

import hashlib
import shutil
import tempfile
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from alphareel.db import migrate
from alphareel.db.api_keys import ApiKeyStore
from alphareel.db.database import Database, open_engine
from alphareel.db.jobs import JobStore
from alphareel.db.uploads import UploadStore
from alphareel.db.webhooks import WebhookStore
from alphareel.db.workers import ExecutorStore
from alphareel.domain.errors import InvalidFileType, NotFound, StorageFailed
from alphareel.domain.options import Options
from alphareel.server import container
from alphareel.server.installation import Overrides, assemble
from alphareel.service.api_keys.service import ApiKeyService
from alphareel.service.jobs.models import TERMINAL, Step
from alphareel.service.jobs.queue_limits import QueueLimits
from alphareel.service.ports import FetchedFile, JobBody, StoredPart
from alphareel.service.services import Services
from alphareel.service.settings import Settings
from alphareel.service.uploads.models import MediaInfo
from alphareel.service.uploads.resolver import UploadResolver


@dataclass
class SettableClock:
    """Stands still until ``advance`` moves it."""

    time: datetime = datetime(2026, 4, 20, 10, tzinfo=UTC)

    def now(self) -> datetime:
        return self.time

    def advance(self, **span: float) -> None:
        """Advance by ``seconds=..``, ``hours=..`` or other arguments of timedelta."""
        self.time += timedelta(**span)


class MemoryBlobs:
    """Blobs in a dictionary. ``broken`` makes every write fail like a full disk."""

    def __init__(self) -> None:
        self.blobs: dict[str, bytes] = {}
        self.written: dict[str, datetime] = {}
        self.broken = False
        self.signs = False
        self.left: int | None = None

    def put_file(self, key: str, path: Path) -> None:
        _check_key(key)
        if self.broken:
            raise StorageFailed("The disk is full.")
        self.blobs[key] = path.read_bytes()
        self.written[key] = datetime.now(UTC)

    @contextmanager
    def local(self, key: str) -> Iterator[Path]:
        data = self._data(key)
        folder = Path(tempfile.mkdtemp())
        try:
            path = folder / key.rpartition("/")[2]
            path.write_bytes(data)
            yield path
        finally:
            shutil.rmtree(folder)

    def size(self, key: str) -> int:
        return len(self._data(key))

    def read(self, key: str, start: int, length: int) -> Iterator[bytes]:
        yield self._data(key)[start : start + length]

    def delete(self, key: str) -> None:
        _check_key(key)
        self.blobs.pop(key, None)

    def delete_prefix(self, prefix: str) -> None:
        if not prefix.endswith("/"):
            raise ValueError(f"{prefix!r} must end in a slash")
        for key in [k for k in self.blobs if k.startswith(prefix)]:
            del self.blobs[key]

    def sweep(self) -> None:
        return

    def older(self, than: datetime) -> Iterator[str]:
        return (key for key in list(self.blobs) if self.written.get(key, than) < than)

    def free(self) -> int | None:
        return self.left

    def sign_puts(self, keys: Sequence[str], lifetime: timedelta) -> tuple[str, ...] | None:
        """Only with ``signs``."""
        if not self.signs:
            return None
        return tuple(f"https://bucket.example.com/{key}?sig={lifetime.total_seconds():g}" for key in keys)

    def parts(self, prefix: str) -> tuple[StoredPart, ...]:
        return tuple(
            StoredPart(key, len(data), f'"{hashlib.md5(data, usedforsecurity=False).hexdigest()}"')
            for key, data in self.blobs.items()
            if key.startswith(prefix)
        )

    def is_ready(self) -> bool:
        return not self.broken

    def _data(self, key: str) -> bytes:
        _check_key(key)
        if key not in self.blobs:
            raise NotFound(f"There is no blob {key!r}.")
        return self.blobs[key]


def _check_key(key: str) -> None:
    parts = key.split("/")
    if any(not p or p.startswith(".") or "\\" in p or "\0" in p for p in parts):
        raise NotFound(f"{key!r} is no key of a blob.")


@dataclass
class RecordingEngine:
    """Records what was enqueued, and runs nothing."""

    queued: list[tuple[str, int]] = field(default_factory=list)
    steps: dict[tuple[str, int], Step] = field(default_factory=dict)
    holders: dict[tuple[str, int], str] = field(default_factory=dict)
    running: bool = False

    def enqueue(
        self,
        connection: Any,  # noqa: ARG002
        job_id: str,
        ticket: int,
        step: Step = Step.RUN,
        key_id: str | None = None,  # noqa: ARG002
    ) -> None:
        self.queued.append((job_id, ticket))
        self.steps[(job_id, ticket)] = step

    def launch(self, on_ready: Callable[[], None] = lambda: None) -> None:
        on_ready()
        self.running = True

    def stop(self, *, grace_seconds: float) -> None:  # noqa: ARG002
        self.running = False

    def recover(self, living: Callable[[], Collection[str]]) -> int:
        living()
        return 0

    def pending(self, tickets: Sequence[tuple[str, int]]) -> frozenset[tuple[str, int]]:
        return frozenset(tickets) & frozenset(self.queued)

    def holder(self, job_id: str, ticket: int) -> str | None:
        return self.holders.get((job_id, ticket))

    def forget(self, *, before: datetime) -> int:  # noqa: ARG002
        return 0


@dataclass
class FakeCapabilities:
    """JobCapabilities that accept everything, with these warnings, until ``error`` is set."""

    error: Exception | None = None
    warnings: tuple[str, ...] = ()

    def check(self, requested: Sequence[Options]) -> tuple[str, ...]:  # noqa: ARG002
        if self.error is not None:
            raise self.error
        return self.warnings

    def check_format(self, name: str) -> None:
        """Accepts every format."""


@dataclass
class CannedFetcher:
    """A Fetcher with canned responses by URL: bytes to deliver, or an error to raise. ``asked``: the URLs requested."""

    answers: dict[str, bytes | Exception] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)

    def fetch(self, url: str, target: Path, *, max_bytes: int, tick: Callable[[], None] = lambda: None) -> FetchedFile:
        self.asked.append(url)
        answer = self.answers[url]
        tick()
        if isinstance(answer, Exception):
            raise answer
        target.write_bytes(answer[:max_bytes])
        return FetchedFile(target, url.rpartition("/")[2], "video/mp4", len(answer))


@dataclass
class RecordingPoster:
    """A Poster that records requests. Its answers are statuses, or errors to raise; the last one repeats."""

    answers: list[int | Exception] = field(default_factory=lambda: [200])
    sent: list[tuple[str, dict[str, str], bytes]] = field(default_factory=list)

    def post(self, url: str, headers: Mapping[str, str], body: bytes) -> int:
        self.sent.append((url, dict(headers), body))
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, Exception):
            raise answer
        return answer


def run_queued_steps(harness: "ServiceHarness", body: JobBody, job_id: str) -> None:
    """Run the queued steps of a job, as the engine does, until there are none. ``body`` is draining."""
    done: set[int] = set()
    while (job := harness.jobs.job(job_id)) is not None and job.ticket not in done and job.status not in TERMINAL:
        done.add(job.ticket)
        if harness.engine.steps[(job_id, job.ticket)] is Step.FETCH:
            body.fetch(job_id, job.ticket)
        elif harness.engine.steps[(job_id, job.ticket)] is Step.DELIVER:
            body.deliver(job_id, job.ticket)
        else:
            body.settle(job_id, job.ticket, body.execute(job_id, job.ticket))


def identify_by_magic(path: Path) -> MediaInfo:
    """Looks at a few bytes only, so that tests of uploads need no real video."""
    head = path.read_bytes()[:16]
    if head[4:8] == b"ftyp":
        return MediaInfo("video", "video/mp4", "mp4")
    if head.startswith(b"\x1aE\xdf\xa3"):
        return MediaInfo("video", "video/webm", "webm")
    if head.startswith(b"\x89PNG"):
        return MediaInfo("image", "image/png", "png")
    raise InvalidFileType("Invalid file type")


TINY_MP4 = b"\0\0\0\x18ftypisom" + bytes(64)
TINY_PNG = b"\x89PNG\r\n\x1a\n" + bytes(64)


@dataclass
class ServiceHarness:
    """The services over a real database, with fakes for everything else that a test may change."""

    services: Services
    jobs: JobStore
    keystore: ApiKeyStore
    uploads: UploadStore
    executors: ExecutorStore
    engine: RecordingEngine
    blobs: MemoryBlobs
    clock: SettableClock
    capabilities: FakeCapabilities
    database: Database
    resolver: UploadResolver
    webhooks: WebhookStore
    poster: RecordingPoster

    @property
    def keys(self) -> ApiKeyService:
        return self.services.api_keys

    def close(self) -> None:
        self.database.close()


def make_settings(**groups: Mapping[str, Any]) -> Settings:
    """Settings without a worker; each argument names fields of a group: ``make_settings(rate_limits={"write": 1})``."""
    return Settings.model_validate({"worker": {"jobs": 0}, **groups})


def open_harness(
    folder: Path,
    *,
    database_url: str | None = None,
    queue_limits: QueueLimits | None = None,
    **groups: Mapping[str, Any],
) -> ServiceHarness:
    """Services on SQLite in ``folder`` (or another database), with fakes for everything else; close it at the end.

    ``groups`` as in ``make_settings``. Uploads may have a million bytes unless ``limits`` say otherwise.
    """
    settings = make_settings(
        **{
            **groups,
            "storage": {"data_dir": folder, "min_free_bytes": 0, **groups.get("storage", {})},
            "limits": {"max_upload_bytes": 1_000_000, **groups.get("limits", {})},
            "probes": {"processes": 3},
            "retention": {"link_seconds": 3600, **groups.get("retention", {})},
            "webhooks": {"secret": "a signing secret"},
            "database": {"url": database_url or f"sqlite:///{folder / 'test.db'}"},
        }
    )
    database = Database(open_engine(settings.database.url))
    migrate.upgrade(database)
    engine, blobs, clock = RecordingEngine(), MemoryBlobs(), SettableClock()
    capabilities, poster = FakeCapabilities(), RecordingPoster()
    overrides = Overrides(
        clock=clock,
        blobs=blobs,
        enqueue=engine.enqueue,
        queue_limits=queue_limits or QueueLimits(),
        capabilities=capabilities,
        poster=poster,
        inspect_media=identify_by_magic,
    )
    installation = assemble(settings, database, overrides)
    return ServiceHarness(
        services=container.build_services(installation),
        jobs=installation.jobs,
        keystore=installation.keys,
        uploads=installation.uploads,
        executors=installation.executors,
        engine=engine,
        blobs=blobs,
        clock=clock,
        capabilities=capabilities,
        database=database,
        resolver=installation.resolver,
        webhooks=WebhookStore(database, clock=clock),
        poster=poster,
    )
