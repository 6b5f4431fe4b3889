"""Where an installation keeps its files and its rows."""

from pathlib import Path
from urllib.parse import urlsplit

from pydantic import Field, field_validator

from alphareel import plugins
from alphareel.paths import default_data_dir, expanded
from alphareel.service.settings.group import MAX_DATABASE_SECONDS, MIB, SettingsGroup, Size


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
        return expanded(value, "ALPHAREEL_DATA_DIR").absolute()

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
        description="sqlite:////absolute/file (four slashes) or postgresql://... Default: SQLite in the data folder.",
    )
    connect_seconds: float = Field(
        default=2.0,
        ge=2,
        le=MAX_DATABASE_SECONDS,
        validation_alias="DATABASE_CONNECT_SECONDS",
        description="How long a request waits for a connection to PostgreSQL.",
    )
    hang_seconds: float = Field(
        default=1.5,
        ge=1,
        le=MAX_DATABASE_SECONDS,
        validation_alias="DATABASE_HANG_SECONDS",
        description="How long the database may show no sign of life, or another process hold SQLite's write lock, "
        "until requests that need it are answered with 503 at once.",
    )
    lock_seconds: float = Field(
        default=5.0,
        gt=0,
        le=MAX_DATABASE_SECONDS,
        validation_alias="DATABASE_LOCK_SECONDS",
        description="How long a request waits for other writers: for a row, or for its turn with SQLite.",
    )
    pool_seconds: float = Field(
        default=5.0,
        gt=0,
        le=MAX_DATABASE_SECONDS,
        validation_alias="DATABASE_POOL_SECONDS",
        description="How long a request waits for a free connection of its process.",
    )
    statement_seconds: float = Field(
        default=30.0,
        gt=0,
        le=MAX_DATABASE_SECONDS,
        validation_alias="DATABASE_STATEMENT_SECONDS",
        description="How long one statement of a request may take on PostgreSQL.",
    )

    @field_validator("url")
    @classmethod
    def _known_scheme(cls, value: str) -> str:
        scheme = value.partition("://")[0].partition("+")[0]
        if value and (scheme not in ("sqlite", "postgresql", "postgres") or "://" not in value):
            raise ValueError("must begin with sqlite:/// or postgresql://")
        if scheme == "sqlite" and not value.partition("://")[2].startswith("//"):
            raise ValueError("must name a file by its whole path: sqlite:////var/lib/alphareel/alphareel.db")
        return value
