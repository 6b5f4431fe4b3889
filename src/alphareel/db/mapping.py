"""Conversion between rows and the service's models."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from alphareel.db.tables import UtcTime, jobs
from alphareel.domain.clip import EngineFacts
from alphareel.domain.options import Options, from_json, to_json
from alphareel.service.api_keys.models import AdminEvent, ApiKey
from alphareel.service.jobs.models import Billing, Job, JobEvent, Kind, Output, Status, StoredMatte
from alphareel.service.jobs.output_targets import erased_targets, targets_from_json, targets_to_json
from alphareel.service.ports import NewJob
from alphareel.service.uploads.models import Upload
from alphareel.service.worker.models import Executor
from alphareel.telemetry.tracing import current_traceparent

_INTERNAL_COLUMNS = ("deleted_at", "queued_at", "admitted_at", "stored_bytes", "downloaded")


def job_from_row(row: sa.Row[Any]) -> Job:
    return _job_from_values(dict(row._mapping))  # noqa: SLF001  # public in SQLAlchemy despite its name


def _job_from_values(values: dict[str, Any]) -> Job:
    values["status"] = Status(values["status"])
    values["options"] = from_json(values["options"])
    values["output"] = Output(**values["output"]) if values["output"] else None
    values["engine"] = EngineFacts(**values["engine"]) if values["engine"] else None
    values["warnings"] = tuple(values["warnings"])
    values["more_options"] = tuple(map(from_json, values.get("more_options") or ()))
    values["more_outputs"] = tuple(Output(**stored) for stored in values.get("more_outputs") or ())
    values["matte"] = StoredMatte(**values["matte"]) if values.get("matte") else None
    values["targets"] = targets_from_json(values.get("targets"))
    values["kind"] = Kind(values.get("kind", Kind.JOB))
    for name in _INTERNAL_COLUMNS:
        values.pop(name, None)
    values["billing_status"] = Billing(values.get("billing_status", Billing.NOT_BILLED))
    return Job(**values)


def snapshot(row: sa.Row[Any]) -> dict[str, Any]:
    """A job's row as JSON, without secrets, so that a webhook can report the job later as it is now."""
    values = {
        name: value.isoformat() if isinstance(value, datetime) else value
        for name, value in row._mapping.items()  # noqa: SLF001
    }
    return values | {"targets": erased_targets(row.targets), "undelivered": None}


def job_from_snapshot(stored: Mapping[str, Any], *, webhook_events: Mapping[str, str]) -> Job:
    """The job of a snapshot, which may come from an older version with fewer columns."""
    columns = {c.name: c for c in jobs.c}
    values = {name: stored[name] for name in columns if name in stored}
    for name, value in values.items():
        if isinstance(columns[name].type, UtcTime) and value is not None:
            values[name] = datetime.fromisoformat(value)
    return replace(_job_from_values(values), webhook_events=webhook_events)


def event_from_row(row: sa.Row[Any]) -> JobEvent:
    values = dict(row._mapping)  # noqa: SLF001
    values["from_status"] = Status(values["from_status"]) if values["from_status"] else None
    values["to_status"] = Status(values["to_status"])
    return JobEvent(**values)


def upload_from_row(row: sa.Row[Any]) -> Upload:
    return Upload(**row._mapping)  # noqa: SLF001


def upload_values(value: Upload) -> dict[str, Any]:
    return asdict(value)


def api_key_from_row(row: sa.Row[Any]) -> ApiKey:
    values = dict(row._mapping)  # noqa: SLF001
    del values["secret_sha256"], values["previous_sha256"]
    return ApiKey(**values)


def admin_event_from_row(row: sa.Row[Any]) -> AdminEvent:
    return AdminEvent(**row._mapping)  # noqa: SLF001


def executor_from_row(row: sa.Row[Any]) -> Executor:
    return Executor(**row._mapping)  # noqa: SLF001


def options_to_json(options: Sequence[Options]) -> list[dict[str, Any]] | None:
    """As stored; None for no options."""
    return [to_json(each) for each in options] or None


def new_run_values() -> dict[str, Any]:
    """The columns of a job that has not begun to run."""
    cleared = (
        "started_at",
        "completed_at",
        "progress_at",
        "output",
        "engine",
        "error",
        "error_code",
        "price",
        "pricing_version",
        "files_expire_at",
        "files_expired_at",
        "admitted_at",
        "preview",
        "more_outputs",
        "matte",
        "report",
        "downloaded",
        "undelivered",
    )
    return {"progress": 0.0, "billing_status": Billing.NOT_BILLED, "credits": 0, "tries": 0, **dict.fromkeys(cleared)}


def new_row(new: NewJob, status: Status, *, now: datetime) -> dict[str, Any]:
    started = 1 if status is Status.PENDING else 0
    return new_run_values() | {
        "id": new.id,
        "key_id": new.key_id,
        "status": status,
        "kind": new.kind,
        "parent_id": new.parent_id,
        "batch_id": new.batch_id,
        "task": new.task,
        "options": to_json(new.options),
        "more_options": options_to_json(new.more_options),
        "keep_matte": new.keep_matte,
        "video_url": new.video_url,
        "webhook_url": new.webhook_url,
        "metadata": new.metadata,
        "queued_at": now if started else None,
        "run": started,
        "ticket": started,
        "attempt": 0,
        "created_at": now,
        "updated_at": now,
        "warnings": list(new.warnings),
        "retention_seconds": new.retention_seconds,
        "test": new.test,
        "targets": targets_to_json(new.targets),
        "request_id": new.request_id,
        "traceparent": current_traceparent(),
    }
