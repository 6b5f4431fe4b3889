"""Analyses of a job's matte: its quality over time, and its subjects."""

import asyncio
import time
from collections.abc import Callable

from fastapi import APIRouter
from starlette.concurrency import run_in_threadpool

from alphareel.http.auth import KeyPrincipal
from alphareel.http.context import ServicesOf
from alphareel.http.openapi import errors
from alphareel.http.routes.jobs import SerializersOf
from alphareel.http.schemas import corrections as schemas
from alphareel.service.jobs.models import TERMINAL, Job

router = APIRouter(tags=["analyses"])

_RESPONSES = errors(s404="No such job, or another key's", s409="The job failed, or its matte was not kept")
_WAIT_SECONDS = 2.0  # short clips are analyzed meanwhile, so that most clients need not ask twice
_POLL_SECONDS = 0.25


@router.get("/jobs/{job_id}/quality", responses=_RESPONSES)
async def get_quality(
    job_id: str, principal: KeyPrincipal, services: ServicesOf, serializers: SerializersOf
) -> schemas.QualityReport:
    """How certain and steady the matte is, over time, with its worst moments and what to try.

    The first request starts the analysis; repeat it until the status is completed.
    """
    job, analysis = await _wait(lambda: services.analyses.quality(principal, job_id))
    return serializers.quality(job, analysis)


@router.get("/jobs/{job_id}/subjects", responses=_RESPONSES)
async def get_subjects(
    job_id: str, principal: KeyPrincipal, services: ServicesOf, serializers: SerializersOf
) -> schemas.Subjects:
    """The subjects that the matte keeps, followed over the clip; of a draft, those in sample frames.

    The first request starts the analysis; repeat it until the status is completed.
    """
    job, analysis = await _wait(lambda: services.analyses.subjects(principal, job_id))
    return serializers.subjects(job, analysis)


async def _wait(find: Callable[[], tuple[Job, Job]]) -> tuple[Job, Job]:
    """The job and its analysis, as soon as that has ended, or after a few seconds.

    No request thread is held meanwhile, so that waiting clients do not stop the others.
    """
    until = time.monotonic() + _WAIT_SECONDS
    job, analysis = await run_in_threadpool(find)
    while analysis.status not in TERMINAL and time.monotonic() < until:
        await asyncio.sleep(_POLL_SECONDS)
        job, analysis = await run_in_threadpool(find)
    return job, analysis
