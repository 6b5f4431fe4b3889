"""The JSON of the routes for operators and of usage, as OpenAPI shows it."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field

from alphareel.http.schemas.responses import Time
from alphareel.service.api_keys.admin import KEY_LIMITS, MAX_CLIENT_LENGTH, MAX_NOTE_LENGTH, PLAIN
from alphareel.service.api_keys.models import ApiKey
from alphareel.service.api_keys.service import NewKey
from alphareel.service.billing.credits import MAX_CREDITS, LedgerEntry
from alphareel.service.billing.credits import Account as ClientAccount
from alphareel.service.jobs.estimates import Estimate as JobEstimate
from alphareel.service.usage.service import UsageBucket

# A name that is not blank: at least one character that is no space.
ClientId = Annotated[
    str,
    Field(
        min_length=1,
        max_length=MAX_CLIENT_LENGTH,
        pattern=rf"^{PLAIN}*{PLAIN.replace('[^', '[^' + chr(92) + 's')}{PLAIN}*$",
    ),
]
Credits = Annotated[float, Field(ge=-MAX_CREDITS / 100, le=MAX_CREDITS / 100)]


class _Schema(BaseModel):
    model_config = ConfigDict(frozen=True, from_attributes=True)


class KeyCreate(_Schema):
    client_id: ClientId = Field(description="Whose key it is; a client may have several.")
    note: str | None = Field(default=None, max_length=MAX_NOTE_LENGTH, pattern=f"^{PLAIN}*$")
    test: bool | None = Field(default=False, description="Its jobs compute nothing and cost nothing.")


class KeyChoice(_Schema):
    key_fingerprint: str = Field(min_length=1)


class KeyRotate(KeyChoice):
    grace_seconds: int | None = Field(
        default=24 * 3600, ge=0, le=90 * 24 * 3600, description="How long the old secret stays good."
    )


class KeyLimits(KeyChoice):
    """What is left out stays as it is; null takes the service's, 0 is no limit."""

    write_per_minute: int | None = Field(
        default=None, ge=0, le=KEY_LIMITS["write_per_minute"], description="Requests that change something."
    )
    read_per_minute: int | None = Field(
        default=None, ge=0, le=KEY_LIMITS["read_per_minute"], description="Requests that only look."
    )
    max_running_jobs: int | None = Field(
        default=None, ge=0, le=KEY_LIMITS["max_running_jobs"], description="At a time; the rest of them wait."
    )
    max_queued_jobs: int | None = Field(
        default=None, ge=0, le=KEY_LIMITS["max_queued_jobs"], description="That wait; one more is too_many_jobs."
    )
    max_storage_bytes: int | None = Field(
        default=None, ge=0, le=KEY_LIMITS["max_storage_bytes"], description="Of its uploads and results together."
    )
    max_credits_per_month: int | None = Field(
        default=None,
        ge=0,
        le=KEY_LIMITS["max_credits_per_month"],
        description="That its jobs may hold and cost in a month of UTC, within its client's balance.",
    )


class Key(_Schema):
    """A key without its secret."""

    client_id: str
    key_fingerprint: str
    note: str
    enabled: bool
    created_at: Time
    last_used_at: Time | None = Field(description="Late by some seconds.")
    total_calls: int
    disabled_at: Time | None
    previous_until: Time | None = Field(description="How long the secret before the last rotation is good.")
    write_per_minute: int | None
    read_per_minute: int | None
    max_running_jobs: int | None
    max_queued_jobs: int | None
    max_storage_bytes: int | None
    max_credits_per_month: int | None
    test: bool = Field(description="Every job of it is a test.")

    @classmethod
    def of(cls, key: ApiKey, **more: Any) -> Self:
        return cls(
            client_id=key.client_id,
            key_fingerprint=key.fingerprint,
            note=key.note,
            enabled=key.enabled,
            created_at=key.created_at,
            last_used_at=key.last_used_at,
            total_calls=key.calls,
            disabled_at=key.disabled_at,
            previous_until=key.previous_until,
            test=key.test,
            **{name: getattr(key, name) for name in KEY_LIMITS},
            **more,
        )


class ChangedKey(Key):
    success: Literal[True] = True


class MadeKey(ChangedKey):
    api_key: str = Field(description="The secret, shown this once.")

    @classmethod
    def from_new(cls, made: NewKey) -> Self:
        return cls.of(made.key, api_key=made.secret)


class KeyList(_Schema):
    success: Literal[True] = True
    items: list[Key]


class AdminConfig(_Schema):
    success: Literal[True] = True
    version: str
    settings: Mapping[str, str] = Field(description="As in docs/settings.md; secrets show as set or unset.")


class AdminEvent(_Schema):
    """One act of an operator, as written when it happened."""

    id: int
    at: Time
    actor: str
    action: str
    subject: str
    detail: Mapping[str, Any]
    request_id: str | None


class AdminEvents(_Schema):
    success: Literal[True] = True
    items: list[AdminEvent]


class CreditGrant(_Schema):
    client_id: ClientId
    credits: Credits = Field(description="Added to the balance; a negative number is taken from it.")
    start_charging: bool = Field(
        default=False, description="Also to an unlimited client, whose jobs are charged from then on."
    )


class CreditBalance(_Schema):
    client_id: ClientId
    balance: Annotated[float, Field(ge=0, le=MAX_CREDITS / 100)] | None = Field(description="null: unlimited.")


class Account(_Schema):
    """A client's credits; all keys of a client share them."""

    success: Literal[True] = True
    client_id: str
    balance: float | None = Field(description="What new jobs can reserve; null: unlimited, nothing is charged.")
    reserved: float = Field(description="Held for jobs that wait or run.")
    charged: float = Field(description="For all completed jobs.")

    @classmethod
    def of(cls, account: ClientAccount, **more: Any) -> Self:
        return cls(
            client_id=account.client_id,
            balance=None if account.balance is None else account.balance / 100,
            reserved=account.reserved / 100,
            charged=account.charged / 100,
            **more,
        )


class Entry(_Schema):
    """A row of the ledger, never changed; the sum of all amounts is the balance."""

    subject: str = Field(description="The job, or the name of the grant.")
    run: int
    kind: Literal["grant", "set", "reserve", "settle", "release"]
    credits: float
    at: Time
    actor: str
    request_id: str | None

    @classmethod
    def of(cls, entry: LedgerEntry) -> Self:
        facts = ("subject", "run", "kind", "at", "actor", "request_id")
        return cls(credits=entry.amount / 100, **{name: getattr(entry, name) for name in facts})


class Ledger(Account):
    items: list[Entry]


class Sums(_Schema):
    jobs: int
    completed: int
    failed: int
    credits_used: float


class Day(Sums):
    date: str = Field(description="UTC.", examples=["2026-04-20"])


class Estimate(_Schema):
    """Null is what cannot be told; `notes` says why."""

    success: Literal[True] = True
    credits: float | None = Field(description="That a client who has a balance would be charged.")
    charged: bool = Field(description="Whether this client has a balance.")
    affordable: bool | None = Field(description="Whether the balance covers it.")
    pricing_version: str
    video_seconds: float | None = Field(description="To be processed: of the video, or of preview_duration.")
    frames: int | None
    work_seconds: float | None = Field(description="Of a worker, without the wait for one.")
    output_bytes: int | None
    speed_basis: Literal["measured", "typical"] = Field(description="measured: by the latest jobs of this server.")
    size_basis: Literal["measured", "typical"]
    notes: list[str]

    @classmethod
    def of(cls, found: JobEstimate, balance: int | None) -> Self:
        facts = ("pricing_version", "frames", "work_seconds", "output_bytes", "speed_basis", "size_basis")
        fits = None if found.credits is None else balance is None or found.credits <= balance
        return cls(
            credits=None if found.credits is None else found.credits / 100,
            charged=balance is not None,
            affordable=fits,
            video_seconds=found.seconds,
            notes=list(found.notes),
            **{name: getattr(found, name) for name in facts},
        )


class Storage(_Schema):
    """What the files of a key take at this moment; bytes that several uploads share are counted once."""

    used_bytes: int
    uploads_bytes: int
    outputs_bytes: int
    max_bytes: int | None = Field(description="null: no limit of the key's own.")


class DayOfModel(_Schema):
    """Jobs that were created on one UTC day with one model, as they stand now."""

    date: str
    model: str
    jobs: int
    completed: int
    failed: int
    credits_used: float

    @classmethod
    def of(cls, tally: UsageBucket, **more: Any) -> Self:
        sums = {name: getattr(tally, name) for name in ("model", "jobs", "completed", "failed")}
        return cls(date=tally.day, credits_used=tally.credits / 100, **sums, **more)


class DayOfKey(DayOfModel):
    client_id: str
    key_fingerprint: str


class KeyUsage(_Schema):
    success: Literal[True] = True
    days: int
    items: list[DayOfKey] = Field(description="One for each UTC day, key and model with jobs.")


class UsageSummary(_Schema):
    """A key's own use; jobs are those created in the time, as they stand now."""

    success: Literal[True] = True
    days: int
    begin: Time = Field(serialization_alias="from", description="A full hour.")
    end: Time = Field(serialization_alias="to")
    total_jobs: int
    completed_jobs: int
    failed_jobs: int
    credits_used: float
    total_requests: int
    storage: Storage
    by_model: dict[str, Sums]
    daily: list[Day] = Field(description="Days with jobs, oldest first.")


class UsageEvent(_Schema):
    """One answered request."""

    id: str
    created_at: Time
    method: str
    endpoint: str
    status_code: int
    request_id: str | None
    job_id: str | None
    model: str | None
    credits: float = Field(description="Reserved or charged for the job by now.")
    error_code: str | None


class UsageEvents(_Schema):
    success: Literal[True] = True
    items: list[UsageEvent]
    limit: int
