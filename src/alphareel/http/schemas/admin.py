"""JSON of the operator routes."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import Field, StringConstraints

from alphareel.http.schemas.fields import Schema, Time
from alphareel.http.schemas.jobs import Transition
from alphareel.http.schemas.usage import ModelUsageDay
from alphareel.http.schemas.webhooks import Webhook
from alphareel.service.api_keys.admin import KEY_LIMITS, MAX_CLIENT_LENGTH, MAX_NOTE_LENGTH, PLAIN
from alphareel.service.api_keys.models import ApiKey
from alphareel.service.api_keys.service import NewKey
from alphareel.service.billing.credits import MAX_CREDITS, LedgerEntry
from alphareel.service.billing.credits import Account as ClientAccount
from alphareel.service.jobs.models import Job, Status
from alphareel.service.requests import RequestBody

DEFAULT_GRACE_SECONDS = 24 * 3600

# A name that is not blank: the pattern needs at least one character other than white space.
ClientId = Annotated[
    str,
    StringConstraints(strip_whitespace=True),
    Field(
        min_length=1,
        max_length=MAX_CLIENT_LENGTH,
        pattern=rf"^{PLAIN}*{PLAIN.replace('[^', '[^' + chr(92) + 's')}{PLAIN}*$",
    ),
]
Credits = Annotated[float, Field(ge=-MAX_CREDITS / 100, le=MAX_CREDITS / 100)]


class KeyCreate(RequestBody):
    client_id: ClientId = Field(description="The owner of the key; a client may have several keys.")
    note: str | None = Field(default=None, max_length=MAX_NOTE_LENGTH, pattern=f"^{PLAIN}*$")
    test: bool | None = Field(
        default=False, description="All its jobs are test jobs: they process nothing and cost nothing."
    )


class KeySelector(RequestBody):
    key_fingerprint: str = Field(min_length=1)


class KeyRotate(KeySelector):
    grace_seconds: int | None = Field(
        default=DEFAULT_GRACE_SECONDS, ge=0, le=90 * 24 * 3600, description="How long the old secret remains valid."
    )


class KeyLimits(KeySelector):
    """Absent fields stay unchanged; null restores the server's default, 0 removes the limit."""

    write_per_minute: int | None = Field(
        default=None, ge=0, le=KEY_LIMITS["write_per_minute"], description="Requests that change something, per minute."
    )
    read_per_minute: int | None = Field(
        default=None, ge=0, le=KEY_LIMITS["read_per_minute"], description="Requests that only read, per minute."
    )
    max_running_jobs: int | None = Field(
        default=None,
        ge=0,
        le=KEY_LIMITS["max_running_jobs"],
        description="Jobs running at the same time; further jobs wait.",
    )
    max_queued_jobs: int | None = Field(
        default=None, ge=0, le=KEY_LIMITS["max_queued_jobs"], description="Waiting jobs; beyond that, too_many_jobs."
    )
    max_storage_bytes: int | None = Field(
        default=None, ge=0, le=KEY_LIMITS["max_storage_bytes"], description="Total size of its uploads and results."
    )
    max_credits_per_month: int | None = Field(
        default=None,
        ge=0,
        le=KEY_LIMITS["max_credits_per_month"],
        description="Credits that its jobs may reserve and cost per UTC month, within its client's balance.",
    )


class Key(Schema):
    """A key without its secret."""

    client_id: str
    key_fingerprint: str
    note: str
    enabled: bool
    created_at: Time
    last_used_at: Time | None = Field(description="Updated with a delay of some seconds.")
    total_calls: int
    disabled_at: Time | None
    previous_until: Time | None = Field(description="When the previous secret expires, after a rotation.")
    write_per_minute: int | None
    read_per_minute: int | None
    max_running_jobs: int | None
    max_queued_jobs: int | None
    max_storage_bytes: int | None
    max_credits_per_month: int | None
    test: bool = Field(description="All its jobs are test jobs.")

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


class UpdatedKey(Key):
    success: Literal[True] = True


class CreatedKey(UpdatedKey):
    api_key: str = Field(description="The secret; no other response contains it.")

    @classmethod
    def from_new(cls, new: NewKey) -> Self:
        return cls.of(new.key, api_key=new.secret)


class KeyList(Schema):
    success: Literal[True] = True
    items: list[Key]


class AdminConfig(Schema):
    success: Literal[True] = True
    version: str
    settings: Mapping[str, bool | int | float | str] = Field(
        description="See docs/settings.md. Secrets appear as set or unset; numbers and switches are no strings."
    )


class AdminEvent(Schema):
    """One action of an operator."""

    id: int
    at: Time
    actor: str
    action: str
    subject: str
    detail: Mapping[str, Any]
    request_id: str | None


class AdminEvents(Schema):
    success: Literal[True] = True
    items: list[AdminEvent]


class CreditGrant(RequestBody):
    client_id: ClientId
    credits: Credits = Field(description="Added to the balance; may be negative.")
    start_charging: bool = Field(
        default=False, description="Allows a grant to an unlimited client; its jobs are charged from then on."
    )


class CreditBalance(RequestBody):
    client_id: ClientId
    balance: Annotated[float, Field(ge=0, le=MAX_CREDITS / 100)] | None = Field(description="null: unlimited.")


class Account(Schema):
    """A client's credits; all keys of a client share them."""

    success: Literal[True] = True
    client_id: str
    balance: float | None = Field(description="Available to new jobs; null: unlimited, nothing is charged.")
    reserved: float = Field(description="Reserved for waiting and running jobs.")
    charged: float = Field(description="Charged for all completed jobs.")

    @classmethod
    def of(cls, account: ClientAccount, **more: Any) -> Self:
        return cls(
            client_id=account.client_id,
            balance=None if account.balance is None else account.balance / 100,
            reserved=account.reserved / 100,
            charged=account.charged / 100,
            **more,
        )


class Entry(Schema):
    """An immutable ledger entry. The sum of all entries is the balance."""

    subject: str = Field(description="The job ID, or the name of the grant.")
    run: int
    kind: Literal["grant", "set", "reserve", "settle", "release"]
    credits: float
    at: Time
    actor: str
    request_id: str | None

    @classmethod
    def of(cls, entry: LedgerEntry) -> Self:
        names = ("subject", "run", "kind", "at", "actor", "request_id")
        return cls(credits=entry.amount / 100, **{name: getattr(entry, name) for name in names})


class Ledger(Account):
    items: list[Entry]


class KeyUsageDay(ModelUsageDay):
    client_id: str
    key_fingerprint: str


class KeyUsage(Schema):
    success: Literal[True] = True
    days: int
    items: list[KeyUsageDay] = Field(description="One per UTC day, key and model with jobs.")


class OperatorJob(Schema):
    """A job as operators see it: without what the caller sent, and without links to files."""

    id: str
    client_id: str | None = Field(description="Null for a job without a key.")
    key_fingerprint: str | None
    status: Literal["created", "pending", "processing", "completed", "failed"]
    progress: float = Field(ge=0, le=100)
    model: str
    output_format: str
    engine: str | None = Field(description="Name and version of what computed the matte.")
    error: str | None
    error_code: str | None
    warnings: list[str]
    attempts: int
    duration_seconds: float | None
    output_bytes: int | None
    credits: float = Field(description="Reserved or charged: see billing_status.")
    billing_status: str
    created_at: Time
    started_at: Time | None
    completed_at: Time | None
    webhook_events: dict[str, str]

    @classmethod
    def of(cls, job: Job, owner: ApiKey | None, **more: Any) -> Self:
        return cls(
            id=job.id,
            client_id=owner.client_id if owner else None,
            key_fingerprint=owner.fingerprint if owner else None,
            status=job.status.value,
            progress=100.0 if job.status is Status.COMPLETED else min(99.9, max(0.0, round(job.progress, 1))),
            model=job.options.model,
            output_format=job.options.output_format,
            engine=f"{job.engine.name} {job.engine.version}" if job.engine else None,
            error=job.error,
            error_code=job.error_code,
            warnings=list(job.warnings),
            attempts=job.attempt,
            duration_seconds=job.output.seconds if job.output else None,
            output_bytes=job.output.bytes if job.output else None,
            credits=job.credits / 100,
            billing_status=job.billing_status.value,
            created_at=job.created_at,
            started_at=job.started_at,
            completed_at=job.completed_at,
            webhook_events=dict(job.webhook_events),
            **more,
        )


class OperatorJobList(Schema):
    success: Literal[True] = True
    items: list[OperatorJob]
    total: int
    limit: int
    offset: int
    has_more: bool


class OperatorJobDetail(OperatorJob):
    success: Literal[True] = True
    history: list[Transition] = Field(description="Every transition, oldest first.")
    webhooks: list[Webhook] = Field(description="In the order of their events, with every attempt.")
