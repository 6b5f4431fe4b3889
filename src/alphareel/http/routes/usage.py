"""A key's own usage: totals by day and model, and its latest calls."""

from collections.abc import Iterable
from typing import Annotated, Literal

from fastapi import APIRouter, Query, Response
from fastapi.responses import JSONResponse

from alphareel.http.auth import KeyPrincipal
from alphareel.http.context import ServicesOf
from alphareel.http.csv_response import OR_CSV, csv_response
from alphareel.http.openapi import errors
from alphareel.http.schemas import usage as schemas
from alphareel.service.uploads.storage_quotas import StoredBytes
from alphareel.service.usage.service import MAX_DAYS, MAX_EVENTS, CallEvent, Summary, UsageBucket

router = APIRouter(prefix="/usage", tags=["usage"])

_BAD_PARAMETER = errors(s400="A parameter cannot be accepted")


@router.get("/summary", response_model=schemas.UsageSummary, responses={**_BAD_PARAMETER, **OR_CSV})
def get_summary(
    principal: KeyPrincipal,
    services: ServicesOf,
    days: Annotated[int, Query(ge=1, le=MAX_DAYS)] = 7,
    format: Annotated[Literal["json", "csv"], Query()] = "json",  # noqa: A002  # the parameter's public name
) -> Response:
    """Jobs, credits and requests of the last days, by model and by day; as CSV one row per day and model."""
    summary = services.usage.summary(principal, days=days)
    if format == "csv":
        return csv_response(schemas.ModelUsageDay, [schemas.ModelUsageDay.of(bucket) for bucket in summary.buckets])
    return JSONResponse(_summary(summary, days).model_dump(mode="json", by_alias=True))


def _summary(summary: Summary, days: int) -> schemas.UsageSummary:
    total = _totals(summary.buckets)
    return schemas.UsageSummary(
        days=days,
        begin=summary.begin,
        end=summary.end,
        total_jobs=total.jobs,
        completed_jobs=total.completed,
        failed_jobs=total.failed,
        credits_used=total.credits_used,
        total_requests=summary.requests,
        storage=_storage(summary.stored),
        by_model={model: _totals(t for t in summary.buckets if t.model == model) for model in _models(summary.buckets)},
        daily=[_day(day, summary.buckets) for day in dict.fromkeys(bucket.day for bucket in summary.buckets)],
    )


@router.get(
    "/events",
    response_model=schemas.UsageEvents,
    responses={**_BAD_PARAMETER, **OR_CSV},
)
def list_events(
    principal: KeyPrincipal,
    services: ServicesOf,
    limit: Annotated[int, Query(ge=1, le=MAX_EVENTS)] = 20,
    format: Annotated[Literal["json", "csv"], Query()] = "json",  # noqa: A002  # the parameter's public name
) -> Response:
    """The latest calls, newest first; also as CSV."""
    items = [_event(event) for event in services.usage.events(principal, limit=limit)]
    if format == "csv":
        return csv_response(schemas.UsageEvent, items)
    return JSONResponse(schemas.UsageEvents(items=items, limit=limit).model_dump(mode="json"))


def _totals(tallies: Iterable[UsageBucket]) -> schemas.UsageTotals:
    jobs = completed = failed = hundredths = 0
    for tally in tallies:
        jobs, completed, failed = jobs + tally.jobs, completed + tally.completed, failed + tally.failed
        hundredths += tally.credits
    return schemas.UsageTotals(jobs=jobs, completed=completed, failed=failed, credits_used=hundredths / 100)


def _storage(stored: StoredBytes) -> schemas.Storage:
    return schemas.Storage(
        used_bytes=stored.total,
        uploads_bytes=stored.uploads,
        outputs_bytes=stored.outputs,
        max_bytes=stored.most,
    )


def _models(tallies: Iterable[UsageBucket]) -> list[str]:
    return sorted({tally.model for tally in tallies})


def _day(day: str, tallies: Iterable[UsageBucket]) -> schemas.UsageDay:
    return schemas.UsageDay(date=day, **dict(_totals(tally for tally in tallies if tally.day == day)))


def _event(event: CallEvent) -> schemas.UsageEvent:
    call = event.call
    return schemas.UsageEvent(
        id=f"call_{event.id}",
        created_at=call.at,
        method=call.method,
        endpoint=call.endpoint,
        status_code=call.status_code,
        request_id=call.request_id,
        job_id=call.job_id,
        model=event.model,
        credits=event.credits / 100,
        error_code=call.error_code,
    )
