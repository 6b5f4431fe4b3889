"""Connections that the service opens: it fetches URLs, delivers outputs and sends webhooks."""

from pydantic import Field, SecretStr, field_validator

from alphareel.service.settings.group import MIN_SECRET, Networks, SettingsGroup, Size
from alphareel.service.webhooks.events import standard_key


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
    min_rate: Size = Field(
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
    #: Between two checks for deliveries that are due.
    poll_seconds: float = 1.0
    #: How long a claimed delivery is this process's; longer than sending may take.
    lease_seconds: float = 30.0

    @field_validator("secret", "old_secret")
    @classmethod
    def _is_signing_secret(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None and len(standard_key(value.get_secret_value())) < MIN_SECRET:
            raise ValueError(f"must have at least {MIN_SECRET} bytes")
        return value
