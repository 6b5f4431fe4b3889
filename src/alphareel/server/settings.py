"""Settings from the environment, parsed once into one frozen value and documented where they are defined."""

import ipaddress
import os
import re
from collections.abc import Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, TypeGuard
from urllib.parse import urlsplit

from pydantic import BeforeValidator, Field, SecretStr, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from alphareel import plugins
from alphareel.domain.errors import InvalidRequest
from alphareel.matting.tiers import parse_priorities
from alphareel.paths import default_data_dir, default_models_dir
from alphareel.service.billing.credits import parse_prices
from alphareel.service.jobs.retention import FOREVER, MAX_RETENTION_SECONDS
from alphareel.service.webhooks.events import standard_key

PREFIX = "ALPHAREEL_"
MIB = 1024 * 1024
GIB = 1024 * MIB

_MIN_SECRET = 8


_UNITS = {
    **{unit: 1000**n for n, unit in enumerate(("b", "kb", "mb", "gb", "tb"))},
    **{unit: 1024**n for n, unit in enumerate(("kib", "mib", "gib", "tib"), 1)},
}
_OF_CLIENTS = frozenset({"URL", "BASE_URL", "TIMEOUT"})  # variables that programs beside the service read


def _networks(value: Any) -> Any:
    return tuple(_network(part.strip()) for part in value.split(",") if part.strip()) if _is_text(value) else value


def _network(text: str) -> ipaddress.IPv4Network | ipaddress.IPv6Network:
    try:
        whole = ipaddress.ip_network(text, strict=False)
    except ValueError:
        raise ValueError(
            f"must be networks such as 10.0.0.0/8 or fd00::/8, separated by commas; got {text!r}"
        ) from None
    if "/" in text and ipaddress.ip_address(text.partition("/")[0]) != whole.network_address:
        raise ValueError(f"must be networks, and {text} is an address in one; write {whole}")
    return whole


def _size(value: Any) -> Any:
    if not _is_text(value):
        return value
    found = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?)\s*([a-z]*)", value.strip().lower())
    unit = _UNITS.get(found[2] or "b") if found else None
    if found is None or unit is None or (unit == 1 and "." in found[1]):
        raise ValueError(f"must be a number of bytes, or one with KB, MB, GB, KiB, MiB or GiB; got {value[:40]!r}")
    return round(float(found[1]) * unit) if "." in found[1] else int(found[1]) * unit


def _is_text(value: Any) -> TypeGuard[str]:
    return isinstance(value, str)


Networks = Annotated[
    tuple[ipaddress.IPv4Network | ipaddress.IPv6Network, ...],
    NoDecode,
    BeforeValidator(_networks),
]
Size = Annotated[int, BeforeValidator(_size)]


_LOOPBACK = (ipaddress.ip_network("127.0.0.0/8"), ipaddress.ip_network("::1/128"))


class Settings(BaseSettings):
    """Read from ``ALPHAREEL_<NAME>``; an empty variable counts as unset. Times in seconds."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, frozen=True, env_ignore_empty=True, extra="forbid")

    data_dir: Path = Field(
        default_factory=default_data_dir,
        description="Folder for the database, objects and temporary files. One service at a time owns it.",
    )
    host: str = Field("127.0.0.1", description="Address to listen on; 0.0.0.0 for all interfaces.")
    port: int = Field(8080, ge=0, le=65535, description="Port to listen on; 0 picks a free one.")
    api_key: SecretStr | None = Field(
        None,
        description=(
            "An API key of any form that is always valid. Unset: a key is created and shown at the first start."
        ),
    )
    admin_token: SecretStr | None = Field(
        None,
        description=(
            "Grants access to /v1/admin/* as X-Admin-Token; at least 8 characters. Unset: those routes are disabled."
        ),
    )
    database_url: str = Field(
        "", description="sqlite:///absolute/file or postgresql://... Default: SQLite in the data folder."
    )
    database_connect_seconds: float = Field(
        2.0, ge=2, description="How long a request waits for a connection to PostgreSQL."
    )
    database_hang_seconds: float = Field(
        1.5,
        ge=1,
        description="How long the database may show no sign of life, or another process hold SQLite's write lock, "
        "until requests that need it are answered with 503 at once.",
    )
    database_lock_seconds: float = Field(
        5.0, gt=0, description="How long a request waits for other writers: for a row, or for its turn with SQLite."
    )
    database_pool_seconds: float = Field(
        5.0, gt=0, description="How long a request waits for a free connection of its process."
    )
    database_statement_seconds: float = Field(
        30.0, gt=0, description="How long one statement of a request may take on PostgreSQL."
    )
    storage_url: str = Field(
        "", description="Object storage: file:///absolute/folder, s3://bucket/prefix, gs:// or az://."
    )
    public_url: str | None = Field(
        None, description="Public base URL of the service (https://host/prefix). Unset: derived from each request."
    )
    models_dir: Path = Field(
        default_factory=default_models_dir,
        description="Folder with model weights, for the service, the command and the library.",
    )
    models_mirror: str | None = Field(
        None, description="Base URL to download weights from instead of their publishers."
    )
    tiers: str = Field(
        "",
        description=(
            "Engines per model in order of preference: original=birefnet,rvm;human=rvm. Unset: built-in order."
        ),
    )
    max_upload_bytes: Size = Field(500 * MIB, ge=1, description="Maximum size of an uploaded or fetched file.")
    max_storage_per_key: Size = Field(
        0, ge=0, description="Maximum bytes of uploads and results per key; 0 for no limit."
    )
    max_storage: Size = Field(0, ge=0, description="Maximum bytes of uploads and results in total; 0 for no limit.")
    min_free_bytes: Size = Field(
        512 * MIB,
        ge=0,
        description=(
            "Minimum free disk space. Below it, uploads are refused with storage_full and /readyz returns "
            "503; 0 for no limit."
        ),
    )
    orphan_seconds: int = Field(
        24 * 3600,
        ge=0,
        description=(
            "Age after which stored files without a database row (as after restoring a backup) are marked, "
            "then deleted a day later; 0 to keep them, for example if two databases share a storage."
        ),
    )
    max_side: int = Field(4096, ge=16, le=16384, description="Maximum width or height of a video, in pixels.")
    max_seconds: float = Field(4 * 3600.0, gt=0, description="Maximum duration of a video.")
    job_memory_bytes: Size = Field(
        16 * GIB, ge=0, description="Address space limit of a job process; 0 for no limit (required by some GPUs)."
    )
    job_cpu_seconds: int = Field(0, ge=0, description="CPU time limit of a job process; 0 for no limit.")
    job_wall_seconds: float = Field(
        12 * 3600.0, ge=0, description=("Wall-clock limit of a job process; 0 for no limit.")
    )
    chunk_seconds: float = Field(
        60.0,
        ge=0,
        description=(
            "Split clips longer than twice this into chunks of this length, so that interrupted jobs can "
            "resume. 0 disables chunking."
        ),
    )
    job_progress_seconds: float = Field(
        600.0, ge=5, description="Time without progress after which a job process is stopped."
    )
    workers: int = Field(
        1, ge=0, le=64, description="Concurrent jobs of the worker process; 0 runs the API without a worker."
    )
    max_running_per_key: int = Field(0, ge=0, description="Concurrent jobs per key; further jobs wait. 0 for no limit.")
    max_queued_per_key: int = Field(
        1000, ge=0, description="Queued jobs per key; further jobs are refused. 0 for no limit."
    )
    max_queued: int = Field(10_000, ge=0, description="Queued jobs in total; 0 for no limit.")
    job_threads: int = Field(0, ge=0, le=256, description="Threads per job; 0 divides the processors evenly.")
    stop_seconds: float = Field(
        20.0,
        ge=0,
        description="Grace period for running jobs at shutdown; afterwards they return to the queue.",
    )
    hang_seconds: float = Field(
        15.0,
        ge=5,
        description="Time without a heartbeat after which the worker process is killed and restarted.",
    )
    credits_per_minute: str = Field(
        "original=60,light=45,pro=180,human=45",
        description="Credits per minute of video for clients with a balance, by model.",
    )
    pricing_version: str = Field(
        "1", min_length=1, max_length=64, description="Name of this price list, stored with every charge."
    )
    write_per_minute: int = Field(60, ge=0, description="Write requests per minute and key; 0 for no limit.")
    read_per_minute: int = Field(600, ge=0, description="Read requests per minute and key; 0 for no limit.")
    connections_per_address: int = Field(
        128, ge=0, description="Concurrent connections per client address; 0 for no limit."
    )
    trusted_proxies: Networks = Field(
        _LOOPBACK,
        description=(
            "Comma-separated networks of proxies whose X-Forwarded-For is trusted and whose connections are "
            "not limited."
        ),
    )
    min_body_rate: Size = Field(
        16 * 1024,
        ge=0,
        description=(
            "Minimum average rate of a request body after its first minute, in bytes per second; 0 for no minimum."
        ),
    )
    min_read_rate: int = Field(
        16 * 1024,
        ge=0,
        description=(
            "Minimum average rate at which a client must read a response after its first minute, in bytes "
            "per second; 0 for no minimum."
        ),
    )
    probe_seconds: float = Field(
        5.0,
        gt=0,
        description="Time limit for inspecting an uploaded file.",
    )
    probe_processes: int = Field(
        0,
        ge=0,
        le=64,
        description="Concurrent upload inspections, each in its own process; 0: processors + 1, between 3 and 8.",
    )
    probe_queue: int = Field(
        128, ge=1, description="Uploads that may wait for inspection; further uploads are refused for the moment."
    )
    probe_queue_per_caller: int = Field(
        32, ge=1, description="Uploads per key that may wait for inspection (per address without a key)."
    )
    guesses_per_minute: int = Field(
        30, ge=0, description="Wrong API keys, and wrong admin tokens, per client address and minute; 0 for no limit."
    )
    rate_limit_url: str = Field(
        "memory://",
        description=("Storage of request counts: memory:// per process, or redis://host/0 shared by all processes."),
    )
    link_seconds: int = Field(24 * 3600, ge=60, description="Lifetime of signed URLs of results and uploads.")
    studio: bool = Field(True, description="Serve the studio, the web pages at /.")
    legacy_routes: bool = Field(True, description="Serve the legacy /api/* routes.")
    legacy_needs_key: bool = Field(
        False, description=("Require an API key on the /api/* routes that create or show jobs.")
    )
    fetch_allow_cidrs: Networks = Field(
        (), description="Comma-separated private networks that video, image and webhook URLs may point to."
    )
    fetch_seconds: float = Field(900.0, gt=0, description="Time limit for fetching one URL.")
    min_fetch_rate: int = Field(
        16 * 1024,
        ge=0,
        description="Minimum average rate of a fetched URL over any minute, in bytes per second; 0 for no minimum.",
    )
    fetch_concurrency: int = Field(
        8,
        ge=1,
        le=64,
        description="Jobs whose URLs the worker process fetches concurrently, in addition to running jobs.",
    )
    webhook_secret: SecretStr | None = Field(
        None, description="Signs webhooks; any text, or whsec_ and base64. Unset: webhooks are not signed."
    )
    webhook_secret_old: SecretStr | None = Field(
        None, description="The previous signing secret, also used (in webhook-signature) while receivers switch over."
    )
    retention_seconds: int = Field(
        7 * 24 * 3600,
        ge=FOREVER,
        le=MAX_RETENTION_SECONDS,
        description=(
            "Retention of results and uploads; 0 deletes them after the download, -1 keeps them. A job may "
            "request less."
        ),
    )
    metrics_open: bool = Field(False, description="Serve /metrics without the admin token.")
    share_jobs_within_client: bool = Field(
        False, description="Let all keys of a client see and change each other's jobs."
    )
    show_pending: bool = Field(False, description="Report queued jobs as pending instead of processing.")
    log_level: str = Field("info", description="debug, info, warning or error.")

    @field_validator("api_key", "admin_token")
    @classmethod
    def _long_enough(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None and not _MIN_SECRET <= len(value.get_secret_value()) <= 1000:
            raise ValueError(f"must have between {_MIN_SECRET} and 1000 characters")
        return value

    @field_validator("webhook_secret", "webhook_secret_old")
    @classmethod
    def _is_signing_secret(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None and len(standard_key(value.get_secret_value())) < _MIN_SECRET:
            raise ValueError(f"must have at least {_MIN_SECRET} bytes")
        return value

    @field_validator("public_url")
    @classmethod
    def _is_web_address(cls, value: str | None) -> str | None:
        if value is None:
            return None
        parts = urlsplit(value)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment:
            raise ValueError("must be an http or https URL without a query")
        return value.rstrip("/")

    @field_validator("rate_limit_url")
    @classmethod
    def _is_counter(cls, value: str) -> str:
        if value.partition("://")[0] not in ("memory", "redis", "rediss"):
            raise ValueError("must begin with memory://, redis:// or rediss://")
        return value

    @field_validator("credits_per_minute")
    @classmethod
    def _is_price_list(cls, value: str) -> str:
        parse_prices(value, "")
        return value

    @field_validator("tiers")
    @classmethod
    def _orders_engines(cls, value: str) -> str:
        try:
            parse_priorities(value)
        except InvalidRequest as error:
            raise ValueError(str(error).rstrip(".")) from error
        return value

    @field_validator("log_level")
    @classmethod
    def _is_level(cls, value: str) -> str:
        if value.lower() not in ("debug", "info", "warning", "error"):
            raise ValueError("must be debug, info, warning or error")
        return value.lower()

    @field_validator("database_url")
    @classmethod
    def _is_database(cls, value: str) -> str:
        scheme = value.partition("://")[0].partition("+")[0]
        if value and scheme not in ("sqlite", "postgresql", "postgres"):
            raise ValueError("must begin with sqlite:/// or postgresql://")
        return value

    @field_validator("storage_url")
    @classmethod
    def _is_storage(cls, value: str) -> str:
        known = plugins.names("alphareel.storage")
        if value and urlsplit(value).scheme not in known:
            raise ValueError(f"must begin with one of {', '.join(f'{name}://' for name in known)}")
        return value

    @model_validator(mode="before")
    @classmethod
    def _fill_from_data_dir(cls, values: Mapping[str, Any]) -> dict[str, Any]:
        filled = dict(values)
        folder = Path(filled.get("data_dir") or default_data_dir()).expanduser().absolute()
        filled["data_dir"] = folder
        filled["models_dir"] = Path(filled.get("models_dir") or folder / "models").expanduser().absolute()
        filled["database_url"] = filled.get("database_url") or f"sqlite:///{folder / 'alphareel.db'}"
        filled["storage_url"] = filled.get("storage_url") or (folder / "objects").as_uri()
        return filled


def traces_are_wanted() -> bool:
    """Whether the standard variables of OpenTelemetry name a collector for traces."""
    names = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
    return any(os.environ.get(name) for name in names)


def load_settings() -> Settings:
    """Settings from the environment. Raises InvalidRequest that names every variable at fault."""
    try:
        return Settings()  # type: ignore[call-arg]  # the environment fills it
    except ValidationError as error:
        problems = "; ".join(
            f"{PREFIX}{'.'.join(map(str, e['loc'])).upper()} {_told(e['msg'])}" for e in error.errors()
        )
        raise InvalidRequest(f"{problems}.", hint="docs/settings.md describes every setting.") from None


def unknown_variables(environment: Mapping[str, str]) -> dict[str, str | None]:
    """Variables that look like settings and are none, each with the setting whose name is nearest to it."""
    known = [PREFIX + name.upper() for name in Settings.model_fields]
    named = {name: name.upper().removeprefix(PREFIX) for name in environment if name.upper().startswith(PREFIX)}
    strange = [n for n, rest in named.items() if rest not in _OF_CLIENTS and not rest.startswith("TEST_")]
    return {
        name: next(iter(get_close_matches(name.upper(), known, n=1, cutoff=0.75)), None)
        for name in strange
        if name.upper() not in known
    }


def as_environment(settings: Settings) -> dict[str, str]:
    """Variables from which ``load_settings`` makes equal settings in another process."""
    return {PREFIX + name.upper(): _written(value) for name, value in settings if value is not None}


def shown(settings: Settings) -> dict[str, str]:
    """Every setting as it may be shown to an operator: without secrets and without logins in addresses."""
    return {name: _harmless(value) for name, value in settings}


def reference() -> str:
    """The table of all settings, as docs/settings.md shows it."""
    rows = [
        f"| `{PREFIX}{name.upper()}` | {_default(name)} | {f.description} |"
        for name, f in Settings.model_fields.items()
    ]
    return "\n".join(("| variable | default | meaning |", "| --- | --- | --- |", *rows)) + "\n"


_SPOKEN_DEFAULTS = {
    "data_dir": "`~/.local/share/alphareel`",
    "models_dir": "`models` in the data folder",
    "database_url": "`alphareel.db` in the data folder",
    "storage_url": "`objects` in the data folder",
}


def _default(name: str) -> str:
    value = Settings.model_fields[name].default
    return _SPOKEN_DEFAULTS.get(name) or ("unset" if value in (None, ()) else f"`{_written(value)}`")


def _harmless(value: Any) -> str:
    if value is None or isinstance(value, SecretStr):
        return "unset" if value is None else "set"
    return re.sub(r"(?<=://)[^/@\s]*@", "", _written(value))


def _written(value: Any) -> str:
    if isinstance(value, SecretStr):
        return value.get_secret_value()
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple):
        return ",".join(map(str, value))
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value)


def _told(message: str) -> str:
    plain = message.removeprefix("Value error, ")
    return plain[0].lower() + plain[1:]
