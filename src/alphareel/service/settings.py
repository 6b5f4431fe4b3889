"""Settings in groups. ``server.settings`` fills them from the environment; services take the groups that they need.

A field with a ``validation_alias`` is a setting: ``ALPHAREEL_`` and the alias is its variable, and docs/settings.md
describes it. Other fields are constants that tests may change. Times are in seconds, sizes in bytes.
"""

import ipaddress
import re
from pathlib import Path
from typing import Annotated, Any, TypeGuard
from urllib.parse import urlsplit

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SecretStr,
    ValidationInfo,
    field_validator,
)

from alphareel import plugins
from alphareel.domain.clip import Limits
from alphareel.domain.errors import InvalidRequest
from alphareel.machine import cores
from alphareel.matting.priorities import Priorities, parse_priorities
from alphareel.paths import default_data_dir, default_models_dir
from alphareel.service.billing.credits import PriceList, parse_prices
from alphareel.service.jobs.models import QUEUES
from alphareel.service.jobs.retention import FOREVER, MAX_RETENTION_SECONDS
from alphareel.service.webhooks.events import standard_key

MIB = 1024 * 1024
GIB = 1024 * MIB

_MIN_SECRET = 8
_UNITS = {
    **{unit: 1000**n for n, unit in enumerate(("b", "kb", "mb", "gb", "tb"))},
    **{unit: 1024**n for n, unit in enumerate(("kib", "mib", "gib", "tib"), 1)},
}


def _networks(value: Any) -> Any:
    return tuple(_network(part.strip()) for part in value.split(",") if part.strip()) if _is_text(value) else value


def _network(text: str) -> ipaddress.IPv4Network | ipaddress.IPv6Network:
    try:
        network = ipaddress.ip_network(text, strict=False)
    except ValueError:
        raise ValueError(
            f"must be networks such as 10.0.0.0/8 or fd00::/8, separated by commas; got {text!r}"
        ) from None
    if "/" in text and ipaddress.ip_address(text.partition("/")[0]) != network.network_address:
        raise ValueError(f"must be networks, and {text} is an address in one; write {network}")
    return network


def _size(value: Any) -> Any:
    if not _is_text(value):
        return value
    match = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?)\s*([a-z]*)", value.strip().lower())
    unit = _UNITS.get(match[2] or "b") if match else None
    if match is None or unit is None or (unit == 1 and "." in match[1]):
        raise ValueError(f"must be a number of bytes, or one with KB, MB, GB, KiB, MiB or GiB; got {value[:40]!r}")
    return round(float(match[1]) * unit) if "." in match[1] else int(match[1]) * unit


def _is_text(value: Any) -> TypeGuard[str]:
    return isinstance(value, str)


def _queues(value: Any) -> Any:
    if not _is_text(value):
        return value
    names = tuple(dict.fromkeys(part.strip() for part in value.split(",") if part.strip()))
    if not names or not set(names) <= set(QUEUES):
        raise ValueError(f"must be one or more of {', '.join(QUEUES)}, separated by commas; got {value[:40]!r}")
    return names


Queues = Annotated[tuple[str, ...], BeforeValidator(_queues)]
Networks = Annotated[tuple[ipaddress.IPv4Network | ipaddress.IPv6Network, ...], BeforeValidator(_networks)]
Size = Annotated[int, BeforeValidator(_size)]

_LOOPBACK = (ipaddress.ip_network("127.0.0.0/8"), ipaddress.ip_network("::1/128"))


class SettingsGroup(BaseModel):
    """The docstring of a subclass is its heading in docs/settings.md."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_by_name=True, validate_by_alias=True)


class StorageSettings(SettingsGroup):
    """Data folder and storage."""

    data_dir: Path = Field(
        default_factory=default_data_dir,
        validate_default=True,
        validation_alias="DATA_DIR",
        description="Folder for the database, objects and temporary files. One service at a time owns it.",
    )
    url: str = Field(
        default_factory=lambda data: (data["data_dir"] / "objects").as_uri(),
        validation_alias="STORAGE_URL",
        description="Object storage: file:///absolute/folder, s3://bucket/prefix, gs:// or az://.",
    )
    max_bytes_per_key: Size = Field(
        default=0,
        ge=0,
        validation_alias="MAX_STORAGE_PER_KEY",
        description="Maximum bytes of uploads and results per key; 0 for no limit.",
    )
    max_bytes: Size = Field(
        default=0,
        ge=0,
        validation_alias="MAX_STORAGE",
        description="Maximum bytes of uploads and results in total; 0 for no limit.",
    )
    min_free_bytes: Size = Field(
        default=512 * MIB,
        ge=0,
        validation_alias="MIN_FREE_BYTES",
        description=(
            "Minimum free disk space. Below it, uploads are refused with storage_full and /readyz returns "
            "503; 0 for no limit."
        ),
    )

    process: str = ""
    """Name of this request process; empty where one process answers all requests."""

    @property
    def incoming(self) -> Path:
        """Folder of uploads that this process is receiving."""
        return self.data_dir / "incoming" / self.process

    @property
    def shared(self) -> Path:
        """Folder of what request processes count together; empty after a start."""
        return self.data_dir / "shared"

    @property
    def heartbeat(self) -> Path:
        """File that the supervisor touches at each heartbeat of its worker process."""
        return self.data_dir / "heartbeat"

    @property
    def spares(self) -> Path:
        """File in which its worker process says how much memory its spares hold."""
        return self.data_dir / "spares"

    @property
    def work(self) -> Path:
        """Folder of the files of running attempts."""
        return self.data_dir / "work"

    @field_validator("data_dir")
    @classmethod
    def _absolute(cls, value: Path) -> Path:
        return value.expanduser().absolute()

    @field_validator("url")
    @classmethod
    def _known_scheme(cls, value: str) -> str:
        schemes = plugins.names("alphareel.storage")
        if urlsplit(value).scheme not in schemes:
            raise ValueError(f"must begin with one of {', '.join(f'{name}://' for name in schemes)}")
        return value


class DatabaseSettings(SettingsGroup):
    """Database."""

    url: str = Field(
        default="",
        validation_alias="DATABASE_URL",
        description="sqlite:///absolute/file or postgresql://... Default: SQLite in the data folder.",
    )
    connect_seconds: float = Field(
        default=2.0,
        ge=2,
        validation_alias="DATABASE_CONNECT_SECONDS",
        description="How long a request waits for a connection to PostgreSQL.",
    )
    hang_seconds: float = Field(
        default=1.5,
        ge=1,
        validation_alias="DATABASE_HANG_SECONDS",
        description="How long the database may show no sign of life, or another process hold SQLite's write lock, "
        "until requests that need it are answered with 503 at once.",
    )
    lock_seconds: float = Field(
        default=5.0,
        gt=0,
        validation_alias="DATABASE_LOCK_SECONDS",
        description="How long a request waits for other writers: for a row, or for its turn with SQLite.",
    )
    pool_seconds: float = Field(
        default=5.0,
        gt=0,
        validation_alias="DATABASE_POOL_SECONDS",
        description="How long a request waits for a free connection of its process.",
    )
    statement_seconds: float = Field(
        default=30.0,
        gt=0,
        validation_alias="DATABASE_STATEMENT_SECONDS",
        description="How long one statement of a request may take on PostgreSQL.",
    )

    @field_validator("url")
    @classmethod
    def _known_scheme(cls, value: str) -> str:
        scheme = value.partition("://")[0].partition("+")[0]
        if value and scheme not in ("sqlite", "postgresql", "postgres"):
            raise ValueError("must begin with sqlite:/// or postgresql://")
        return value


class HttpSettings(SettingsGroup):
    """HTTP server."""

    host: str = Field(
        default="127.0.0.1", validation_alias="HOST", description="Address to listen on; 0.0.0.0 for all interfaces."
    )
    port: int = Field(
        default=8080, ge=0, le=65535, validation_alias="PORT", description="Port to listen on; 0 picks a free one."
    )
    processes: int = Field(
        default=1,
        ge=1,
        le=64,
        validation_alias="API_PROCESSES",
        description="Processes that answer requests. More than one: each is replaced when it dies or hangs.",
    )
    public_url: str | None = Field(
        default=None,
        validation_alias="PUBLIC_URL",
        description="Public base URL of the service (https://host/prefix). Unset: derived from each request.",
    )
    cdn_url: str | None = Field(
        default=None,
        validation_alias="CDN_URL",
        description="Base URL of a CDN that fetches /files/ from this service; links of files start with it.",
    )
    trusted_proxies: Networks = Field(
        default=_LOOPBACK,
        validation_alias="TRUSTED_PROXIES",
        description=(
            "Comma-separated networks of proxies whose X-Forwarded-For is trusted and whose connections are "
            "not limited."
        ),
    )
    connections_per_address: int = Field(
        default=128,
        ge=0,
        validation_alias="CONNECTIONS_PER_ADDRESS",
        description="Concurrent connections per client address; 0 for no limit.",
    )
    min_body_rate: Size = Field(
        default=16 * 1024,
        ge=0,
        validation_alias="MIN_BODY_RATE",
        description=(
            "Minimum average rate of a request body after its first minute, in bytes per second; 0 for no minimum."
        ),
    )
    min_read_rate: int = Field(
        default=16 * 1024,
        ge=0,
        validation_alias="MIN_READ_RATE",
        description=(
            "Minimum average rate at which a client must read a response after its first minute, in bytes "
            "per second; 0 for no minimum."
        ),
    )
    studio: bool = Field(default=True, validation_alias="STUDIO", description="Serve the studio, the web pages at /.")
    legacy_routes: bool = Field(
        default=True,
        validation_alias="LEGACY_ROUTES",
        description="Serve the legacy /api/* routes. Off: only /api/pricing, and /api/download with a key, remain.",
    )
    legacy_needs_key: bool = Field(
        default=False,
        validation_alias="LEGACY_NEEDS_KEY",
        description="Require an API key on the /api/* routes that create or show jobs.",
    )
    #: Longest time without any data of a body.
    idle_seconds: float = 60.0
    #: The minimum rates apply after this time.
    grace_seconds: float = 60.0
    max_json_bytes: int = MIB
    #: How long the rest of a refused body is read, so that the client sees the response.
    drain_seconds: float = 60.0
    #: Concurrent event streams of one key in this process.
    streams_per_key: int = 10

    @field_validator("public_url", "cdn_url")
    @classmethod
    def _is_http_url(cls, value: str | None) -> str | None:
        if value is None:
            return None
        parts = urlsplit(value)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment:
            raise ValueError("must be an http or https URL without a query")
        return value.rstrip("/")


class AccessSettings(SettingsGroup):
    """Access."""

    api_key: SecretStr | None = Field(
        default=None,
        validation_alias="API_KEY",
        description=(
            "An API key of any form that is always valid. Unset: a key is created and shown at the first start."
        ),
    )
    admin_token: SecretStr | None = Field(
        default=None,
        validation_alias="ADMIN_TOKEN",
        description=(
            "Grants access to /v1/admin/* as X-Admin-Token; at least 8 characters. Unset: those routes are disabled."
        ),
    )
    metrics_open: bool = Field(
        default=False, validation_alias="METRICS_OPEN", description="Serve /metrics without the admin token."
    )

    @field_validator("api_key", "admin_token")
    @classmethod
    def _long_enough(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None and not _MIN_SECRET <= len(value.get_secret_value()) <= 1000:
            raise ValueError(f"must have between {_MIN_SECRET} and 1000 characters")
        return value


class RateLimitSettings(SettingsGroup):
    """Rate limits."""

    write: int = Field(
        default=60,
        ge=0,
        validation_alias="WRITE_PER_MINUTE",
        description="Write requests per minute and key; 0 for no limit.",
    )
    read: int = Field(
        default=600,
        ge=0,
        validation_alias="READ_PER_MINUTE",
        description="Read requests per minute and key; 0 for no limit.",
    )
    auth_failures: int = Field(
        default=30,
        ge=0,
        validation_alias="GUESSES_PER_MINUTE",
        description="Wrong API keys, and wrong admin tokens, per client address and minute; 0 for no limit.",
    )
    storage_url: str = Field(
        default="memory://",
        validation_alias="RATE_LIMIT_URL",
        description="Storage of request counts: memory:// per process, or redis://host/0 shared by all processes.",
    )

    @field_validator("storage_url")
    @classmethod
    def _known_scheme(cls, value: str) -> str:
        if value.partition("://")[0] not in ("memory", "redis", "rediss"):
            raise ValueError("must begin with memory://, redis:// or rediss://")
        return value


class LimitSettings(SettingsGroup):
    """Limits of a video."""

    max_upload_bytes: Size = Field(
        default=500 * MIB,
        ge=1,
        validation_alias="MAX_UPLOAD_BYTES",
        description="Maximum size of an uploaded or fetched file.",
    )
    max_side: int = Field(
        default=4096,
        ge=16,
        le=16384,
        validation_alias="MAX_SIDE",
        description="Maximum width or height of a video, in pixels.",
    )
    max_seconds: float = Field(
        default=4 * 3600.0, gt=0, validation_alias="MAX_SECONDS", description="Maximum duration of a video."
    )

    @property
    def clip(self) -> Limits:
        return Limits(max_bytes=self.max_upload_bytes, max_side=self.max_side, max_seconds=self.max_seconds)


class TusSettings(SettingsGroup):
    """Resumable uploads."""

    expire_seconds: float = Field(
        default=24 * 3600.0,
        ge=60,
        validation_alias="TUS_EXPIRE_SECONDS",
        description="Time after its last part when an unfinished resumable upload is deleted.",
    )
    uploads_per_key: int = Field(
        default=100,
        ge=1,
        validation_alias="TUS_UPLOADS_PER_KEY",
        description="Unfinished resumable uploads per key; further ones are refused.",
    )
    #: Bytes after which what was received is stored, and the offset moves on; more for a large file.
    part_bytes: int = 8 * MIB
    #: Parts of one upload; each request makes at least one.
    max_parts: int = 10_000
    #: How long a request that appends keeps the upload locked after it received something.
    lock_seconds: float = 6.0


class ProbeSettings(SettingsGroup):
    """Inspection of uploads."""

    seconds: float = Field(
        default=5.0, gt=0, validation_alias="PROBE_SECONDS", description="Time limit for inspecting an uploaded file."
    )
    processes: int = Field(
        default=0,
        ge=0,
        le=64,
        validation_alias="PROBE_PROCESSES",
        description="Concurrent upload inspections, each in its own process; 0: processors + 1, between 3 and 8.",
    )
    queue: int = Field(
        default=128,
        ge=1,
        validation_alias="PROBE_QUEUE",
        description="Uploads that may wait for inspection; further uploads are refused for the moment.",
    )
    queue_per_caller: int = Field(
        default=32,
        ge=1,
        validation_alias="PROBE_QUEUE_PER_CALLER",
        description="Uploads per key that may wait for inspection (per address without a key).",
    )

    @property
    def slots(self) -> int:
        """Inspections that run at the same time."""
        return self.processes or min(8, max(3, cores() + 1))

    @property
    def slots_per_caller(self) -> int:
        """Of one caller, or of all callers without a key together: one less, so that others find one."""
        return max(1, self.slots - 1)


class MultipartSettings(SettingsGroup):
    """Multipart uploads."""

    seconds: int = Field(
        default=6 * 3600,
        ge=60,
        le=7 * 24 * 3600,
        validation_alias="MULTIPART_SECONDS",
        description="How long a client may send the parts of a multipart upload, and complete it.",
    )
    max_per_key: int = Field(
        default=32,
        ge=1,
        validation_alias="MULTIPART_PER_KEY",
        description="Multipart uploads of a key that are not complete; further ones are refused for the moment.",
    )


class ModelSettings(SettingsGroup):
    """Models."""

    dir: Path = Field(
        default_factory=default_models_dir,
        validation_alias="MODELS_DIR",
        description="Folder with model weights, for the service, the command and the library.",
    )
    mirror: str | None = Field(
        default=None,
        validation_alias="MODELS_MIRROR",
        description="Base URL to download weights from instead of their publishers.",
    )
    tiers: str = Field(
        default="",
        validation_alias="TIERS",
        description=(
            "Engines per model in order of preference: original=birefnet,rvm;human=rvm. Unset: built-in order."
        ),
    )

    only_permissive: bool = Field(
        default=False,
        validation_alias="ONLY_PERMISSIVE",
        description=(
            "Refuse engines whose code or weights are not under a permissive license; for the service, the command and "
            "the library."
        ),
    )

    @property
    def priorities(self) -> Priorities:
        return parse_priorities(self.tiers)

    @field_validator("dir")
    @classmethod
    def _absolute(cls, value: Path) -> Path:
        return value.expanduser().absolute()

    @field_validator("tiers")
    @classmethod
    def _known_engines(cls, value: str) -> str:
        try:
            parse_priorities(value)
        except InvalidRequest as error:
            raise ValueError(str(error).rstrip(".")) from error
        return value


class QueueSettings(SettingsGroup):
    """Queue."""

    max_running_per_key: int = Field(
        default=0,
        ge=0,
        validation_alias="MAX_RUNNING_PER_KEY",
        description="Concurrent jobs per key; further jobs wait. 0 for no limit.",
    )
    max_queued_per_key: int = Field(
        default=1000,
        ge=0,
        validation_alias="MAX_QUEUED_PER_KEY",
        description="Queued jobs per key; further jobs are refused. 0 for no limit.",
    )
    max_queued: int = Field(
        default=10_000, ge=0, validation_alias="MAX_QUEUED", description="Queued jobs in total; 0 for no limit."
    )


class JobSettings(SettingsGroup):
    """Jobs."""

    show_pending: bool = Field(
        default=False,
        validation_alias="SHOW_PENDING",
        description="Report queued jobs as pending instead of processing.",
    )
    share_within_client: bool = Field(
        default=False,
        validation_alias="SHARE_JOBS_WITHIN_CLIENT",
        description="Let all keys of a client see and change each other's jobs.",
    )


class WorkerSettings(SettingsGroup):
    """Worker."""

    jobs: int = Field(
        default=1,
        ge=0,
        le=64,
        validation_alias="WORKERS",
        description="Concurrent jobs of the worker process; 0 runs the API without a worker.",
    )
    runner_slots: int = Field(
        default=16,
        ge=0,
        le=1024,
        validation_alias="RUNNER_SLOTS",
        description="Concurrent jobs of the worker process on joined runners, in addition to its own; 0 for none.",
    )
    runners_only: bool = Field(
        default=False,
        validation_alias="RUNNERS_ONLY",
        description=(
            "Run the engines of jobs on joined runners alone: jobs wait until one joins. Only what the joined ones "
            "cannot do or failed at runs here, and what is made of a kept matte."
        ),
    )
    queues: Queues = Field(
        default=QUEUES,
        validation_alias="QUEUES",
        description=(
            "Comma-separated queues that the worker process takes from: jobs, fetches (files from and to URLs)."
        ),
    )
    threads: int = Field(
        default=0,
        ge=0,
        le=256,
        validation_alias="JOB_THREADS",
        description="Threads per job; 0 divides the processors evenly.",
    )
    memory_bytes: Size = Field(
        default=16 * GIB,
        ge=0,
        validation_alias="JOB_MEMORY_BYTES",
        description="Address space limit of a job process; 0 for no limit (required by some GPUs).",
    )
    cpu_seconds: int = Field(
        default=0,
        ge=0,
        validation_alias="JOB_CPU_SECONDS",
        description="CPU time limit of a job process; 0 for no limit.",
    )
    wall_seconds: float = Field(
        default=12 * 3600.0,
        ge=0,
        validation_alias="JOB_WALL_SECONDS",
        description="Wall-clock limit of a job process; 0 for no limit.",
    )
    progress_seconds: float = Field(
        default=600.0,
        ge=5,
        validation_alias="JOB_PROGRESS_SECONDS",
        description="Time without progress after which a job process is stopped.",
    )
    chunk_seconds: float = Field(
        default=60.0,
        ge=0,
        validation_alias="CHUNK_SECONDS",
        description=(
            "Split clips longer than twice this into chunks of this length, so that interrupted jobs can "
            "resume. 0 disables chunking."
        ),
    )
    stop_seconds: float = Field(
        default=20.0,
        ge=0,
        validation_alias="STOP_SECONDS",
        description="Grace period for running jobs at shutdown; afterwards they return to the queue.",
    )
    hang_seconds: float = Field(
        default=15.0,
        ge=5,
        validation_alias="HANG_SECONDS",
        description="Time without a heartbeat after which the worker process is killed and restarted.",
    )
    confined: bool = Field(
        default=True,
        validation_alias="CONFINE_JOBS",
        description=(
            "Let the kernel confine job processes, as far as it can: no sockets, no programs, no files but the job's. "
            "`alphareel doctor` shows what is in force."
        ),
    )
    spare_idle_seconds: float = Field(
        default=1800.0,
        ge=0,
        validation_alias="SPARE_IDLE_SECONDS",
        description=(
            "How long job processes that were started ahead wait for a job; then they end, and the next job "
            "begins more slowly. 0 starts none ahead."
        ),
    )
    spare_max_bytes: Size = Field(
        default=1 * GIB,
        ge=0,
        validation_alias="SPARE_MAX_BYTES",
        description="Memory that a waiting job process may hold; 0 for no limit.",
    )
    #: Tries before a retryable failure is final, counted from the last chunk that was finished.
    max_tries: int = 3
    #: Tries before a job whose worker or process dies each time is given up, counted likewise.
    max_deaths: int = 6
    #: Wait before the second try; it doubles with each further one.
    retry_seconds: float = 2.0
    #: The module whose ``run`` makes results.
    pipeline: str = "alphareel.pipeline.run"

    @property
    def threads_per_job(self) -> int:
        return self.threads or max(1, cores() // max(1, self.jobs))


class FetchSettings(SettingsGroup):
    """Fetching URLs."""

    allow_cidrs: Networks = Field(
        default=(),
        validation_alias="FETCH_ALLOW_CIDRS",
        description="Comma-separated private networks that video, image, webhook and output_target URLs may point to.",
    )
    seconds: float = Field(
        default=900.0, gt=0, validation_alias="FETCH_SECONDS", description="Time limit for fetching one URL."
    )
    min_rate: int = Field(
        default=16 * 1024,
        ge=0,
        validation_alias="MIN_FETCH_RATE",
        description="Minimum average rate of a fetched URL over any minute, in bytes per second; 0 for no minimum.",
    )
    concurrency: int = Field(
        default=8,
        ge=1,
        le=64,
        validation_alias="FETCH_CONCURRENCY",
        description="Jobs whose URLs the worker process fetches concurrently, in addition to running jobs.",
    )
    connect_seconds: float = 10.0
    idle_seconds: float = 30.0
    #: ``min_rate`` applies within any such time of waiting.
    rate_seconds: float = 60.0
    max_redirects: int = 5


class DeliverySettings(SettingsGroup):
    """Sending outputs."""

    seconds: float = Field(
        default=1800.0,
        gt=0,
        validation_alias="DELIVERY_SECONDS",
        description="Time limit for sending one output to its output_target, with all tries.",
    )
    tries: int = Field(
        default=6,
        ge=1,
        le=20,
        validation_alias="DELIVERY_TRIES",
        description="How often an output is sent until its receiver takes it.",
    )
    #: Before the second try; it doubles from one to the next.
    retry_seconds: float = 2.0
    max_retry_seconds: float = 60.0


class WebhookSettings(SettingsGroup):
    """Webhooks."""

    secret: SecretStr | None = Field(
        default=None,
        validation_alias="WEBHOOK_SECRET",
        description="Signs webhooks; any text, or whsec_ and base64. Unset: webhooks are not signed.",
    )
    old_secret: SecretStr | None = Field(
        default=None,
        validation_alias="WEBHOOK_SECRET_OLD",
        description="The previous signing secret, also used (in webhook-signature) while receivers switch over.",
    )
    #: Deliveries that one process sends at the same time. Per client < per host < total, so that one client's hanging
    #: receivers never block another's.
    max_sending: int = 16
    max_sending_per_host: int = 4
    max_sending_per_client: int = 2
    #: Between two looks for deliveries that are due.
    poll_seconds: float = 1.0
    #: How long a claimed delivery is this process's; longer than sending may take.
    lease_seconds: float = 30.0

    @field_validator("secret", "old_secret")
    @classmethod
    def _is_signing_secret(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None and len(standard_key(value.get_secret_value())) < _MIN_SECRET:
            raise ValueError(f"must have at least {_MIN_SECRET} bytes")
        return value


class RetentionSettings(SettingsGroup):
    """Retention."""

    seconds: int = Field(
        default=7 * 24 * 3600,
        ge=FOREVER,
        le=MAX_RETENTION_SECONDS,
        validation_alias="RETENTION_SECONDS",
        description=(
            "Retention of results and uploads; 0 deletes them after the download, -1 keeps them. A job may "
            "request less."
        ),
    )
    link_seconds: int = Field(
        default=24 * 3600,
        ge=60,
        validation_alias="LINK_SECONDS",
        description="Lifetime of signed URLs of results and uploads.",
    )
    orphan_seconds: int = Field(
        default=24 * 3600,
        ge=0,
        validation_alias="ORPHAN_SECONDS",
        description=(
            "Age after which stored files without a database row (as after restoring a backup) are marked, "
            "then deleted a day later; 0 to keep them, for example if two databases share a storage."
        ),
    )

    @property
    def default(self) -> int | None:
        """Seconds that files are kept unless their job requests less; None for forever."""
        return None if self.seconds == FOREVER else self.seconds


class BillingSettings(SettingsGroup):
    """Credits."""

    credits_per_minute: str = Field(
        default="original=60,light=45,pro=180,human=45",
        validation_alias="CREDITS_PER_MINUTE",
        description="Credits per minute of video for clients with a balance, by model.",
    )
    export_credits_per_minute: str = Field(
        default="0",
        validation_alias="EXPORT_CREDITS_PER_MINUTE",
        description="Credits per minute of video for an export of a kept matte, for clients with a balance.",
    )
    pricing_version: str = Field(
        default="1",
        min_length=1,
        max_length=64,
        validation_alias="PRICING_VERSION",
        description="Name of this price list, stored with every charge.",
    )

    @property
    def prices(self) -> PriceList:
        return parse_prices(self.credits_per_minute, self.pricing_version, self.export_credits_per_minute)

    @field_validator("credits_per_minute")
    @classmethod
    def _is_price_list(cls, value: str) -> str:
        parse_prices(value, "")
        return value

    @field_validator("export_credits_per_minute")
    @classmethod
    def _is_price(cls, value: str) -> str:
        parse_prices("original=0,light=0,pro=0,human=0", "", value)
        return value


class LogSettings(SettingsGroup):
    """Logs."""

    level: str = Field(default="info", validation_alias="LOG_LEVEL", description="debug, info, warning or error.")

    @field_validator("level")
    @classmethod
    def _known_level(cls, value: str) -> str:
        if value.lower() not in ("debug", "info", "warning", "error"):
            raise ValueError("must be debug, info, warning or error")
        return value.lower()


class Settings(BaseModel):
    """All settings. The database and the models folder are in the data folder unless they are set."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True)

    storage: StorageSettings = Field(default_factory=StorageSettings)
    database: DatabaseSettings = DatabaseSettings()
    models: ModelSettings = Field(default_factory=ModelSettings)
    http: HttpSettings = HttpSettings()
    access: AccessSettings = AccessSettings()
    rate_limits: RateLimitSettings = RateLimitSettings()
    limits: LimitSettings = LimitSettings()
    tus: TusSettings = TusSettings()
    probes: ProbeSettings = ProbeSettings()
    multipart: MultipartSettings = MultipartSettings()
    jobs: JobSettings = JobSettings()
    queue: QueueSettings = QueueSettings()
    worker: WorkerSettings = WorkerSettings()
    fetch: FetchSettings = FetchSettings()
    delivery: DeliverySettings = DeliverySettings()
    webhooks: WebhookSettings = WebhookSettings()
    retention: RetentionSettings = RetentionSettings()
    billing: BillingSettings = BillingSettings()
    log: LogSettings = LogSettings()

    @field_validator("database")
    @classmethod
    def _database_in_data_dir(cls, value: DatabaseSettings, info: ValidationInfo) -> DatabaseSettings:
        if value.url or "storage" not in info.data:
            return value
        return value.model_copy(update={"url": f"sqlite:///{info.data['storage'].data_dir / 'alphareel.db'}"})

    @field_validator("models")
    @classmethod
    def _models_in_data_dir(cls, value: ModelSettings, info: ValidationInfo) -> ModelSettings:
        if "dir" in value.model_fields_set or "storage" not in info.data:
            return value
        return value.model_copy(update={"dir": info.data["storage"].data_dir / "models"})
