"""Creates several jobs in one request, all or none, and reads them together."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from alphareel.domain.errors import FieldProblem, InvalidRequest, NotFound
from alphareel.service.idempotency import IdempotentRequest
from alphareel.service.jobs.models import Job
from alphareel.service.jobs.output_targets import FIELD
from alphareel.service.jobs.service import JobService
from alphareel.service.ports import NewJob
from alphareel.service.principal import Principal

if TYPE_CHECKING:
    from alphareel.db.idempotency import IdempotencyStore
    from alphareel.db.jobs import JobStore

MAX_JOBS = 100
"""Jobs of one batch."""


@dataclass(frozen=True)
class Batch:
    id: str
    jobs: tuple[Job, ...]


@dataclass(frozen=True)
class BatchService:
    jobs: JobService
    store: JobStore
    idempotency: IdempotencyStore

    def create(
        self,
        principal: Principal,
        body: Mapping[str, Any],
        *,
        once: IdempotentRequest | None = None,
        on_added: Callable[[Batch], None] = lambda _: None,
    ) -> Batch:
        """Create a job for each of ``items``, whose fields take precedence over those of the body itself.

        ``on_added`` is called before the response for ``once`` is rendered. Raises what creating a job raises; then no
        job exists. Errors name the item.
        """
        if once is not None:
            self.idempotency.lookup(once)
        items = _items(body)
        _check_shared_targets(body, len(items))
        shared = {name: value for name, value in body.items() if name not in ("items", "video_urls")}
        batch_id = "batch_" + secrets.token_hex(20)
        new = [
            self._prepare(principal, {**shared, **item}, number=number, batch_id=batch_id)
            for number, item in enumerate(items)
        ]
        self._check_size(principal, body, new)
        added = self.store.add_jobs(
            new,
            start=True,
            actor=principal.actor,
            once=once,
            on_added=lambda jobs: on_added(Batch(batch_id, jobs)),
        )
        return Batch(batch_id, added)

    def get(self, principal: Principal, batch_id: str) -> Batch:
        """The jobs of a batch that were not deleted, in the order of the request. Raises NotFound."""
        jobs = self.store.of_batch(batch_id)
        if not jobs:
            raise NotFound("Batch not found", hint="Check the id, and that the key is the one that made the batch.")
        self.jobs.get(principal, jobs[0].id)
        return Batch(batch_id, jobs)

    def _check_size(self, principal: Principal, body: Mapping[str, Any], new: Sequence[NewJob]) -> None:
        """Raises InvalidRequest for more jobs than the queue takes of this key, however long the client waits."""
        most = self.store.most_queued(principal.key_id)
        queued = sum(job.test is None for job in new)
        if most and queued > most:
            message = f"has {queued} jobs, and the queue takes at most {most} of this key. Send smaller batches."
            raise _bad(_field(body), message)

    def _prepare(self, principal: Principal, body: Mapping[str, Any], *, number: int, batch_id: str) -> NewJob:
        try:
            job, start = self.jobs.prepare(principal, body)
            if not start:
                raise _bad("auto_start", "must be true: a batch has no drafts. Create them one by one.")
        except InvalidRequest as error:
            prefix = f"items.{number}"
            details = [FieldProblem(f"{prefix}.{each.field}".rstrip("."), each.message) for each in error.details]
            raise InvalidRequest(f"{prefix}: {error.message}", hint=error.hint, details=details) from None
        return replace(job, batch_id=batch_id, task={**(job.task or {}), "number": number})


def _field(body: Mapping[str, Any]) -> str:
    return "items" if body.get("items") is not None else "video_urls"


def _items(body: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
    """The items, or one for each of ``video_urls``. Raises InvalidRequest."""
    field = _field(body)
    items = body.get(field)
    if items is None:
        raise _bad("items", "is required: a list of jobs, or video_urls with their addresses.")
    if not isinstance(items, list) or not 1 <= len(items) <= MAX_JOBS:
        raise _bad(field, f"must be a list of 1 to {MAX_JOBS} entries.")
    if field == "video_urls":
        return [{"video_url": url} for url in items]
    for number, item in enumerate(items):
        if not isinstance(item, Mapping):
            raise _bad(f"items.{number}", "must be an object with a video_url.")
    return items


def _check_shared_targets(body: Mapping[str, Any], count: int) -> None:
    """Raises InvalidRequest when several jobs would send their files to the same address."""
    listed = body.get("outputs")
    bodies = [body, *(listed if isinstance(listed, list) else ())]
    if count > 1 and any(isinstance(each, Mapping) and each.get(FIELD) is not None for each in bodies):
        raise _bad(FIELD, "is the address of one file. Give each of items its own.")


def _bad(field: str, message: str) -> InvalidRequest:
    return InvalidRequest(f"{field}: {message}", details=[FieldProblem(field, message)])
