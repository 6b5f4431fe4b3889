"""The older ``/api`` routes. They need no key: the job ID grants access. A key that is sent must own the job."""

from fastapi import APIRouter, Request, Response

from alphareel.http import catalog
from alphareel.http.auth import LegacyPrincipal
from alphareel.http.context import ServicesOf, SettingsOf, context_of
from alphareel.http.openapi import errors, file_body, json_body
from alphareel.http.request_body import JsonObject
from alphareel.http.routes.jobs import SerializersOf
from alphareel.http.routes.uploads import ContentLengthChecked, receive
from alphareel.http.schemas import files, jobs, models, uploads
from alphareel.service.jobs.requests import JobCreate
from alphareel.service.jobs.service import result_expired

router = APIRouter(prefix="/api", tags=["legacy"], responses=errors())
lasting = APIRouter(prefix="/api", tags=["legacy"], responses=errors())
"""Routes that have no form under /v1, so they stay when the legacy routes are off. Then /download needs a key."""

_UNAUTHORIZED = "This server requires a key, or the key is unknown"
_PRICING_CACHE_CONTROL = "public, max-age=300"


@router.post(
    "/upload", openapi_extra=file_body(), responses=errors(s400="No video, too large, or no form", s401=_UNAUTHORIZED)
)
async def legacy_upload(
    request: Request, principal: LegacyPrincipal, _: ContentLengthChecked, services: ServicesOf, settings: SettingsOf
) -> uploads.Upload:
    """The same as `POST /v1/uploads`."""
    return await receive(request, principal, services, settings)


@router.post(
    "/process",
    openapi_extra=json_body(JobCreate),
    responses=errors(s400="A field cannot be accepted", s401=_UNAUTHORIZED),
)
def legacy_process(
    principal: LegacyPrincipal, body: JsonObject, services: ServicesOf, serializers: SerializersOf
) -> jobs.Process:
    """Create a job and start it in one call."""
    job = services.jobs.create(principal, body, auto_start=True)
    return jobs.Process(id=job.id, job_id=job.id, status=serializers.status(job.status), message="Job started")


@router.get("/status/{job_id}", responses=errors(s401=_UNAUTHORIZED, s404="No such job"))
def legacy_status(
    job_id: str, principal: LegacyPrincipal, services: ServicesOf, serializers: SerializersOf
) -> jobs.Job:
    """The same as `GET /v1/jobs/{job_id}`."""
    return serializers.job(services.jobs.get(principal, job_id))


@lasting.get(
    "/download/{job_id}", responses=errors(s400="The job is not completed", s401=_UNAUTHORIZED, s404="No such job")
)
def legacy_download(
    job_id: str, principal: LegacyPrincipal, services: ServicesOf, serializers: SerializersOf
) -> files.Download:
    """A fresh link to the output as JSON, not the file itself."""
    job = serializers.job(services.jobs.completed(principal, job_id))
    if job.output_url is None:  # its retention period is over; it may not be deleted yet
        raise result_expired()
    return files.Download(download_url=job.output_url, output_url=job.output_url, output_format=job.output_format)


@lasting.get("/pricing", responses=errors())
def get_pricing(request: Request, response: Response, services: ServicesOf, settings: SettingsOf) -> models.Pricing:
    """Credits per minute of video by model, the engine of each model, and the limits on clips."""
    response.headers["Cache-Control"] = _PRICING_CACHE_CONTROL
    engines = context_of(request).list_engines()
    return catalog.pricing(services.prices, engines, services.estimates.speeds(), settings.limits)
