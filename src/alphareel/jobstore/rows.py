"""Rows of our tables as the values the jobs speak of, and back."""

from dataclasses import asdict
from typing import Any

import sqlalchemy as sa

from alphareel.domain.clip import EngineFacts
from alphareel.domain.options import from_json
from alphareel.jobs.job import ApiKey, Billing, Executor, Job, JobEvent, Output, Status, Upload
from alphareel.jobs.office import AdminEvent


def job(row: sa.Row[Any]) -> Job:
    values = dict(row._mapping)  # noqa: SLF001  # SQLAlchemy's public way to a mapping
    values["status"] = Status(values["status"])
    values["options"] = from_json(values["options"])
    values["output"] = Output(**values["output"]) if values["output"] else None
    values["engine"] = EngineFacts(**values["engine"]) if values["engine"] else None
    values["warnings"] = tuple(values["warnings"])
    del values["deleted_at"]
    values["billing_status"] = Billing(values["billing_status"])
    return Job(**values)


def event(row: sa.Row[Any]) -> JobEvent:
    values = dict(row._mapping)  # noqa: SLF001
    values["from_status"] = Status(values["from_status"]) if values["from_status"] else None
    values["to_status"] = Status(values["to_status"])
    return JobEvent(**values)


def upload(row: sa.Row[Any]) -> Upload:
    return Upload(**row._mapping)  # noqa: SLF001


def upload_values(value: Upload) -> dict[str, Any]:
    return asdict(value)


def key(row: sa.Row[Any]) -> ApiKey:
    values = dict(row._mapping)  # noqa: SLF001
    del values["secret_sha256"], values["previous_sha256"]
    return ApiKey(**values)


def admin_event(row: sa.Row[Any]) -> AdminEvent:
    return AdminEvent(**row._mapping)  # noqa: SLF001


def executor(row: sa.Row[Any]) -> Executor:
    return Executor(**row._mapping)  # noqa: SLF001
