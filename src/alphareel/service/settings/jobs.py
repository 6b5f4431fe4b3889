"""Jobs: their engines, the queue, how long their files are kept, and what they cost."""

from pathlib import Path

from pydantic import Field, field_validator

from alphareel.domain.errors import InvalidRequest
from alphareel.matting.priorities import Priorities, parse_priorities
from alphareel.paths import default_models_dir, expanded
from alphareel.service.billing.credits import PriceList, parse_prices
from alphareel.service.jobs.retention import FOREVER, MAX_RETENTION_SECONDS
from alphareel.service.settings.group import SettingsGroup


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
        return expanded(value, "ALPHAREEL_MODELS_DIR").absolute()

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
