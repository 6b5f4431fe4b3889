"""Settings in groups. ``server.settings`` fills them from the environment; services take the groups that they need.

A field with a ``validation_alias`` is a setting: ``ALPHAREEL_`` and the alias is its variable, and docs/settings.md
describes it. Other fields are constants that tests may change. Times are in seconds, sizes in bytes.
"""

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator

from alphareel.service.settings.group import GIB, MIB, SettingsGroup
from alphareel.service.settings.http import AccessSettings, HttpSettings, RateLimitSettings
from alphareel.service.settings.jobs import (
    BillingSettings,
    JobSettings,
    ModelSettings,
    QueueSettings,
    RetentionSettings,
)
from alphareel.service.settings.log import LogSettings
from alphareel.service.settings.net import DeliverySettings, FetchSettings, WebhookSettings
from alphareel.service.settings.storage import DatabaseSettings, StorageSettings
from alphareel.service.settings.uploads import LimitSettings, MultipartSettings, ProbeSettings, TusSettings
from alphareel.service.settings.worker import WorkerSettings

__all__ = [
    "GIB",
    "MIB",
    "AccessSettings",
    "BillingSettings",
    "DatabaseSettings",
    "DeliverySettings",
    "FetchSettings",
    "HttpSettings",
    "JobSettings",
    "LimitSettings",
    "LogSettings",
    "ModelSettings",
    "MultipartSettings",
    "ProbeSettings",
    "QueueSettings",
    "RateLimitSettings",
    "RetentionSettings",
    "Settings",
    "SettingsGroup",
    "StorageSettings",
    "TusSettings",
    "WebhookSettings",
    "WorkerSettings",
]


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
