"""A key's own use: sums over days, and the latest calls."""

from collections.abc import Iterable
from typing import Annotated, Literal

from fastapi import APIRouter, Query, Response
from fastapi.responses import JSONResponse

from alphareel.http.auth import KeyPrincipal
from alphareel.http.context import ServicesOf
from alphareel.http.csv_response import OR_CSV, csv_answer
from alphareel.http.openapi import errors
from alphareel.http.schemas import admin as schemas
from alphareel.service.uploads.quotas import StoredBytes
from alphareel.service.usage.service import MAX_DAYS, MAX_EVENTS, CallEvent, Summary, UsageBucket

router = APIRouter(prefix="/usage", tags=["usage"])

_BAD = errors(s400="A parameter cannot be accepted")


@router.get("/summary", response_model=schemas.UsageSummary, responses={**_BAD, **OR_CSV})
def get_summary(
    caller: KeyPrincipal,
    services: ServicesOf,
    days: Annotated[int, Query(ge=1, le=MAX_DAYS)] = 7,
    format: Annotated[Literal["json", "csv"], Query()] = "json",  # noqa: A002  # the parameter's public name
) -> Response:
    """Jobs, credits and requests of the last days, by model and by day; as CSV a row for each day and model."""
    found = services.usage.summary(caller, days=days)
    if format == "csv":
        return csv_answer(schemas.DayOfModel, [schemas.DayOfModel.of(tally) for tally in found.buckets])
    return JSONResponse(_summary(found, days).model_dump(mode="json", by_alias=True))


def _summary(found: Summary, days: int) -> schemas.UsageSummary:
    total = _sums(found.buckets)
    return schemas.UsageSummary(
        days=days,
        begin=found.begin,
        end=found.end,
        total_jobs=total.jobs,
        completed_jobs=total.completed,
        failed_jobs=total.failed,
        credits_used=total.credits_used,
        total_requests=found.requests,
        storage=_storage(found.stored),
        by_model={model: _sums(t for t in found.buckets if t.model == model) for model in _models(found.buckets)},
        daily=[_day(day, found.buckets) for day in dict.fromkeys(tally.day for tally in found.buckets)],
    )


@router.get(
    "/events",
    response_model=schemas.UsageEvents,
    responses={**_BAD, **OR_CSV},
)
def list_events(
    caller: KeyPrincipal,
    services: ServicesOf,
    limit: Annotated[int, Query(ge=1, le=MAX_EVENTS)] = 20,
    format: Annotated[Literal["json", "csv"], Query()] = "json",  # noqa: A002  # the parameter's public name
) -> Response:
    """The latest calls, newest first; `format=csv` gives the same as a table."""
    items = [_event(found) for found in services.usage.events(caller, limit=limit)]
    if format == "csv":
        return csv_answer(schemas.UsageEvent, items)
    return JSONResponse(schemas.UsageEvents(items=items, limit=limit).model_dump(mode="json"))


def _sums(tallies: Iterable[UsageBucket]) -> schemas.Sums:
    jobs = completed = failed = hundredths = 0
    for tally in tallies:
        jobs, completed, failed = jobs + tally.jobs, completed + tally.completed, failed + tally.failed
        hundredths += tally.credits
    return schemas.Sums(jobs=jobs, completed=completed, failed=failed, credits_used=hundredths / 100)


def _storage(stored: StoredBytes) -> schemas.Storage:
    return schemas.Storage(
        used_bytes=stored.total,
        uploads_bytes=stored.uploads,
        outputs_bytes=stored.outputs,
        max_bytes=stored.most,
    )


def _models(tallies: Iterable[UsageBucket]) -> list[str]:
    return sorted({tally.model for tally in tallies})


def _day(day: str, tallies: Iterable[UsageBucket]) -> schemas.Day:
    return schemas.Day(date=day, **dict(_sums(tally for tally in tallies if tally.day == day)))


def _event(found: CallEvent) -> schemas.UsageEvent:
    call = found.call
    return schemas.UsageEvent(
        id=f"call_{found.id}",
        created_at=call.at,
        method=call.method,
        endpoint=call.endpoint,
        status_code=call.status_code,
        request_id=call.request_id,
        job_id=call.job_id,
        model=found.model,
        credits=found.credits / 100,
        error_code=call.error_code,
    )
