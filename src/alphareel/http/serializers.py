"""Jobs, uploads and audit rows as the contract shows them."""

from typing import Any

from fastapi import Request

from alphareel.http.config import HttpConfig
from alphareel.http.job_serializers import JobSerializer
from alphareel.http.schemas import responses
from alphareel.service.files import signed_urls
from alphareel.service.jobs.models import Job, JobEvent, Status
from alphareel.service.services import Services
from alphareel.service.uploads.models import Upload


class Serializers:
    """Shows values to one request: addresses become absolute on the host that the caller sees."""

    def __init__(self, request: Request, services: Services, config: HttpConfig) -> None:
        base = config.public_url or str(request.base_url)
        self._jobs = JobSerializer(base, services.files, show_pending=config.show_pending)
        self._services = services
        self._state = request.state

    def upload(self, upload: Upload) -> responses.Upload:
        self._state.video_id = upload.id
        url = self._jobs.absolute(self._services.files.upload_link(upload))
        return responses.Upload(
            video_id=upload.id,
            video_url=url,
            filename=upload.filename,
            size=upload.size,
            url=url if upload.kind == "image" else None,
        )

    def job(self, job: Job) -> responses.Job:
        return self._jobs.job(job)

    def accepted(self, job: Job, message: str) -> responses.AcceptedJob:
        self._state.job_id = job.id  # for the record of calls
        self._state.video_id = signed_urls.upload_id(job.video_url)
        return responses.AcceptedJob(message=message, **dict(self.job(job)))

    def status(self, status: Status) -> responses.ShownStatus:
        return self._jobs.status(status)

    def transition(self, event: JobEvent) -> dict[str, Any]:
        """For a stream of events: the transition, and the state as it is shown."""
        row = responses.Transition.model_validate(event).model_dump(mode="json")
        return {"id": event.job_id, "status": self.status(event.to_status), **row}

    def history(self, job_id: str, events: tuple[JobEvent, ...]) -> responses.History:
        return responses.History(
            id=job_id, job_id=job_id, items=[responses.Transition.model_validate(e) for e in events]
        )
