"""Stand-ins for the ports, and a whole service on a folder: quick, in one process, as strict as the real adapters."""

import shutil
import tempfile
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from alphareel.domain.errors import InvalidFileType, NotFound, StorageFailed
from alphareel.domain.options import Options
from alphareel.jobs.admin import Administration
from alphareel.jobs.admission import QueueLimits
from alphareel.jobs.credits import parse_prices
from alphareel.jobs.job import TERMINAL, Step
from alphareel.jobs.keys import Keys
from alphareel.jobs.ports import Fetched, JobBody
from alphareel.jobs.postman import Courier
from alphareel.jobs.quotas import Quotas
from alphareel.jobs.service import Office, Service, ServiceRules, Stores
from alphareel.jobs.uploads import Identity, Sources, UploadRules, Uploads
from alphareel.jobs.usage import CallLog, Usage
from alphareel.jobs.webhook_desk import WebhookDesk
from alphareel.jobs.webhooks import Secrets
from alphareel.jobstore import migrate
from alphareel.jobstore import records as recordstore
from alphareel.jobstore.accounts import AccountTable
from alphareel.jobstore.calls import CallTable
from alphareel.jobstore.census import CensusTable, RunTable
from alphareel.jobstore.database import Database, open_engine
from alphareel.jobstore.executors import ExecutorTable
from alphareel.jobstore.expirations import ExpirationTable
from alphareel.jobstore.jobs import Jobs
from alphareel.jobstore.keyring import KeyRing
from alphareel.jobstore.removals import Removals
from alphareel.jobstore.repeats import RepeatTable
from alphareel.jobstore.stock import Stock
from alphareel.jobstore.webhooks import WebhookTable


@dataclass
class SettableClock:
    """Stands still until it is told to move."""

    time: datetime = datetime(2026, 4, 20, 10, tzinfo=UTC)

    def now(self) -> datetime:
        return self.time

    def advance(self, **span: float) -> None:
        """Move on by ``seconds=..``, ``hours=..`` and the other words of timedelta."""
        self.time += timedelta(**span)


class MemoryBlobs:
    """Blobs in a dictionary. ``broken`` makes every write fail like a full disk."""

    def __init__(self) -> None:
        self.blobs: dict[str, bytes] = {}
        self.written: dict[str, datetime] = {}
        self.broken = False
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
    """Notes what was enqueued, and runs nothing."""

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

    def launch(self) -> None:
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
class Refusing:
    """An Offer that accepts everything, with these warnings, until ``error`` is set."""

    error: Exception | None = None
    warnings: tuple[str, ...] = ()

    def check(self, options: Options) -> tuple[str, ...]:  # noqa: ARG002
        if self.error is not None:
            raise self.error
        return self.warnings


@dataclass
class CannedFetcher:
    """A Fetcher that knows some addresses by heart: bytes to deliver, or an error to raise. ``asked``: for what."""

    answers: dict[str, bytes | Exception] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)

    def fetch(self, url: str, target: Path, *, max_bytes: int, tick: Callable[[], None] = lambda: None) -> Fetched:
        self.asked.append(url)
        answer = self.answers[url]
        tick()
        if isinstance(answer, Exception):
            raise answer
        target.write_bytes(answer[:max_bytes])
        return Fetched(target, url.rpartition("/")[2], "video/mp4", len(answer))


@dataclass
class RecordingPoster:
    """A Poster that notes what was sent; its answers are statuses, or errors to raise, the last for ever."""

    answers: list[int | Exception] = field(default_factory=lambda: [200])
    sent: list[tuple[str, dict[str, str], bytes]] = field(default_factory=list)

    def post(self, url: str, headers: Mapping[str, str], body: bytes) -> int:
        self.sent.append((url, dict(headers), body))
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, Exception):
            raise answer
        return answer


def work_off(desk: "Desk", body: JobBody, job_id: str) -> None:
    """Call for what is queued for a job, as the engine does, until nothing is. ``body`` is winding down."""
    done: set[int] = set()
    while (job := desk.jobs.job(job_id)) is not None and job.ticket not in done and job.status not in TERMINAL:
        done.add(job.ticket)
        if desk.engine.steps[(job_id, job.ticket)] is Step.FETCH:
            body.fetch(job_id, job.ticket)
        else:
            body.settle(job_id, job.ticket, body.execute(job_id, job.ticket))


def identify_by_magic(path: Path) -> Identity:
    """Looks at a few bytes only, so that tests of uploads need no real video."""
    head = path.read_bytes()[:16]
    if head[4:8] == b"ftyp":
        return Identity("video", "video/mp4", "mp4")
    if head.startswith(b"\x1aE\xdf\xa3"):
        return Identity("video", "video/webm", "webm")
    if head.startswith(b"\x89PNG"):
        return Identity("image", "image/png", "png")
    raise InvalidFileType("Invalid file type")


TINY_MP4 = b"\0\0\0\x18ftypisom" + bytes(64)
TINY_PNG = b"\x89PNG\r\n\x1a\n" + bytes(64)


@dataclass
class Desk:
    """A service and everything behind it, for a test to turn."""

    service: Service
    jobs: Jobs
    keys: Keys
    keystore: recordstore.Keys
    uploads: recordstore.Uploads
    executors: ExecutorTable
    engine: RecordingEngine
    blobs: MemoryBlobs
    clock: SettableClock
    offer: Refusing
    database: Database
    sources: Sources
    office: Office
    webhooks: WebhookTable
    poster: RecordingPoster

    def close(self) -> None:
        self.database.close()


def open_desk(
    folder: Path,
    *,
    database_url: str | None = None,
    show_pending: bool = False,
    max_bytes: int = 1_000_000,
    limits: QueueLimits | None = None,
    quotas: Quotas | None = None,
    share_within_client: bool = False,
    min_free_bytes: int = 0,
) -> Desk:
    """A service on SQLite in ``folder`` (or another database), with fakes for everything else; close it at the end."""
    database = Database(open_engine(database_url or f"sqlite:///{folder / 'test.db'}"))
    migrate.upgrade(database)
    clock, engine, blobs, offer = SettableClock(), RecordingEngine(), MemoryBlobs(), Refusing()
    stock = Stock(database, quotas or Quotas())
    jobs = Jobs(database, enqueue=engine.enqueue, clock=clock, limits=limits, stock=stock)
    uploads = recordstore.Uploads(database, clock=clock, stock=stock)
    keystore = recordstore.Keys(database, clock=clock)
    executors = ExecutorTable(database, clock=clock)
    secret = keystore.set_setting_once("link_secret", "a secret of the tests")
    sources = Sources(uploads, secret)
    table, poster, keys = WebhookTable(database, clock=clock), RecordingPoster(), Keys(keystore)
    rules = UploadRules(folder / "incoming", max_bytes, min_free_bytes)
    office = _office(database, keystore, stock, clock)
    service = Service(
        Stores(
            jobs,
            executors,
            blobs,
            Removals(database, clock=clock),
            ExpirationTable(database, clock=clock),
            CensusTable(database, clock=clock),
        ),
        keys=keys,
        office=office,
        uploads=Uploads(uploads, blobs, shelves=stock, identify=identify_by_magic, rules=rules, clock=clock),
        sources=sources,
        webhooks=WebhookDesk(table, Courier(poster, Secrets(("a signing secret",)), clock), clock=clock),
        offer=offer,
        rules=ServiceRules(secret, timedelta(hours=1), show_pending, 7 * 24 * 3600, share_within_client),
        clock=clock,
    )
    return Desk(
        service=service,
        jobs=jobs,
        keys=keys,
        keystore=keystore,
        uploads=uploads,
        executors=executors,
        engine=engine,
        blobs=blobs,
        clock=clock,
        offer=offer,
        database=database,
        sources=sources,
        office=office,
        webhooks=table,
        poster=poster,
    )


def _office(database: Database, keystore: recordstore.Keys, stock: Stock, clock: SettableClock) -> Office:
    calls = CallTable(database)
    return Office(
        Administration(
            keystore,
            KeyRing(database, clock=clock),
            accounts=AccountTable(database, clock=clock),
            clock=clock,
            config={"port": "8080"},
        ),
        Usage(calls, stock, clock=clock),
        CallLog(calls),
        parse_prices("original=60,light=45,pro=180,human=45", "1"),
        RepeatTable(database, clock=clock),
        RunTable(database),
    )
