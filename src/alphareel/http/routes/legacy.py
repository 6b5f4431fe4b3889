"""The older ``/api`` routes: no key needed, the job id is the capability; a key that is sent must own the job."""

from fastapi import APIRouter, Request, Response

from alphareel.domain.errors import JobNotCompleted
from alphareel.http import catalog
from alphareel.http.auth import LegacyPrincipal
from alphareel.http.context import ConfigOf, ServicesOf, context_of
from alphareel.http.openapi import errors, file_body, json_body
from alphareel.http.request_body import JsonObject
from alphareel.http.routes.jobs import SerializersOf
from alphareel.http.routes.uploads import ContentLengthChecked, receive
from alphareel.http.schemas import jobs, responses

router = APIRouter(prefix="/api", tags=["legacy"], responses=errors())

_REFUSED = "A key is demanded here, or it is not known"
_PRICES_LAST = "public, max-age=300"


@router.post(
    "/upload", openapi_extra=file_body(), responses=errors(s400="No video, too large, or no form", s401=_REFUSED)
)
async def legacy_upload(
    request: Request, caller: LegacyPrincipal, _: ContentLengthChecked, services: ServicesOf, config: ConfigOf
) -> responses.Upload:
    """The same as `POST /v1/uploads`."""
    return await receive(request, caller, services, config)


@router.post(
    "/process",
    openapi_extra=json_body(jobs.JobCreate),
    responses=errors(s400="A field cannot be accepted", s401=_REFUSED),
)
def legacy_process(
    caller: LegacyPrincipal, body: JsonObject, services: ServicesOf, views: SerializersOf
) -> responses.Process:
    """Create a job and start it in one call."""
    job = services.jobs.create(caller, body, auto_start=True)
    return responses.Process(id=job.id, job_id=job.id, status=views.status(job.status), message="Job started")


@router.get("/status/{job_id}", responses=errors(s401=_REFUSED, s404="No such job"))
def legacy_status(job_id: str, caller: LegacyPrincipal, services: ServicesOf, views: SerializersOf) -> responses.Job:
    """The same as `GET /v1/jobs/{job_id}`."""
    return views.job(services.jobs.get(caller, job_id))


@router.get("/download/{job_id}", responses=errors(s400="The job is not completed", s401=_REFUSED, s404="No such job"))
def legacy_download(
    job_id: str, caller: LegacyPrincipal, services: ServicesOf, views: SerializersOf
) -> responses.Download:
    """Where the output can be fetched: JSON with a fresh link, not the file itself."""
    job = views.job(services.jobs.completed(caller, job_id))
    if job.output_url is None:  # the output was deleted between the two looks
        raise JobNotCompleted("Job not completed.", hint="Ask again when its status is completed.")
    return responses.Download(download_url=job.output_url, output_url=job.output_url, output_format=job.output_format)


@router.get("/pricing", responses=errors())
def get_pricing(request: Request, response: Response, services: ServicesOf, config: ConfigOf) -> responses.Pricing:
    """Credits for a minute of video by model, what serves each model here, and what a clip may be."""
    response.headers["Cache-Control"] = _PRICES_LAST
    found = context_of(request).list_engines()
    return catalog.pricing(services.prices, found, services.estimates.speeds(), config)
