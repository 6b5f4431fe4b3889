"""Sends the finished outputs of a job to the targets that the client gave, before the job is completed.

This step has its own queue and uses no slot of a running job (docs/decisions/0045-output-targets.md).
"""

from __future__ import annotations

import contextlib
import threading
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Literal
from urllib.parse import urlsplit

from alphareel.domain.errors import AlphareelError, NotFound, Unavailable
from alphareel.service.jobs.attempts import AttemptCompleted, attempt_result_from_json
from alphareel.service.jobs.models import Job, Output, Status
from alphareel.service.jobs.output_targets import OutputDelivery, OutputTarget
from alphareel.service.ports import Blobs, FileSender
from alphareel.service.settings import DeliverySettings, WorkerSettings
from alphareel.service.worker.cleanup import JobCleanup
from alphareel.service.worker.progress import AttemptSuperseded, CancellationCheck, WorkerStopping, block_until_exit
from alphareel.telemetry.logging import get_logger, log_context
from alphareel.telemetry.tracing import set_span_error, start_span

if TYPE_CHECKING:
    from alphareel.db.jobs import JobStore

_PASSING_REFUSALS = (408, 425, 429)
_POLL_SECONDS = 0.5
_SIGN_OF_LIFE_SECONDS = 30.0


@dataclass(frozen=True)
class _Response:
    """The outcome of one request. ``final``: another request would end the same way."""

    status_code: int | None
    error: str | None
    final: bool


class OutputDeliverer:
    """``stopping`` is set when the worker stops; other workers then do unfinished deliveries.

    ``on_completed`` gets each job that has completed, more than once after a crash.
    """

    def __init__(
        self,
        name: str,
        *,
        jobs: JobStore,
        blobs: Blobs,
        sender: FileSender,
        settings: DeliverySettings,
        worker: WorkerSettings,
        stopping: threading.Event,
        on_completed: Callable[[Job], None] = lambda _: None,
    ) -> None:
        self._name = name
        self._on_completed = on_completed
        self._jobs = jobs
        self._blobs = blobs
        self._cleanup = JobCleanup(jobs, blobs)
        self._sender = sender
        self._settings = settings
        self._worker = worker
        self._stopping = stopping
        self._running: dict[str, Job] = {}

    def move_to_delivery_queue(self, job_id: str, ticket: int) -> bool:
        """Move a job whose outputs are made, and only have to be sent, to the queue of deliveries; False for others."""
        job = self._jobs.job(job_id)
        if job is None or job.undelivered is None:
            return False
        return self._jobs.queue_delivery(job_id, ticket=ticket, actor=self._name)

    def deliver(self, job_id: str, ticket: int) -> None:
        """Send each output that was not sent yet, and complete the job. Raises Unavailable only."""
        with log_context(job_id=job_id):
            if self._stopping.is_set():
                block_until_exit()
            job = self._jobs.begin_delivery(job_id, ticket=ticket, actor=self._name)
            if job is not None and job.undelivered is not None:  # it has not ended
                self._running[job_id] = job
                try:
                    self._deliver(job)
                except AttemptSuperseded:
                    pass
                except WorkerStopping:
                    block_until_exit()
                except Unavailable:  # the database's fault: it costs no try
                    with contextlib.suppress(Unavailable):
                        self._jobs.uncount_try(job_id, ticket=ticket)
                    raise
                finally:
                    del self._running[job_id]
            self._cleanup.remove_leftovers(job_id)
            if (ended := self._jobs.job(job_id)) is not None and ended.status is Status.COMPLETED:
                self._on_completed(ended)

    def abandon(self) -> None:
        """Release the running deliveries, which then do not count as tries."""
        for job in list(self._running.values()):
            with contextlib.suppress(Unavailable):
                self._jobs.uncount_try(job.id, ticket=job.ticket)

    def _deliver(self, job: Job) -> None:
        assert job.undelivered is not None
        result = attempt_result_from_json(job.undelivered)
        assert isinstance(result, AttemptCompleted)
        outputs = [result.output, *result.more_outputs]
        tick = _LivenessCheck(self._jobs, job, self._stopping)
        for number, target in enumerate(job.targets):
            if target is None or outputs[number].delivery is not None:
                continue
            delivery = self._traced_delivery(job, outputs[number], target, tick)
            outputs[number] = replace(outputs[number], delivery=delivery.to_json())
            result = replace(result, output=outputs[0], more_outputs=tuple(outputs[1:]))
            if delivery.status == "failed":
                result = replace(result, warnings=(*result.warnings, _warning(outputs[number], delivery)))
            if not self._jobs.set_undelivered(job.id, ticket=job.ticket, undelivered=result):
                raise AttemptSuperseded
        self._jobs.complete(
            job.id,
            attempt=result.attempt,
            output=result.output,
            more_outputs=result.more_outputs,
            matte=result.matte,
            report=result.report,
            engine=result.engine,
            warnings=result.warnings,
            actor=self._name,
            delivered=True,
        )

    def _traced_delivery(self, job: Job, output: Output, target: OutputTarget, tick: _LivenessCheck) -> OutputDelivery:
        with start_span("delivery", parent=job.traceparent, kind="client", job_id=job.id) as span:
            delivery = self._send(job, output, target, tick)
            host = urlsplit(target.url).hostname
            if delivery.error is None:
                get_logger(__name__).info("output delivered", host=host, attempts=delivery.attempts)
            else:
                set_span_error(span, str(delivery.status_code or "no_answer"))
                get_logger(__name__).warning("output not delivered", host=host, error=delivery.error)
            return delivery

    def _send(self, job: Job, output: Output, target: OutputTarget, tick: _LivenessCheck) -> OutputDelivery:
        """Try until the receiver accepts or refuses it, or the tries or the time are used up."""
        if job.tries > self._worker.max_deaths:
            return self._result(
                target,
                0,
                _Response(None, f"The worker died {self._worker.max_deaths} times while it sent it.", final=True),
            )
        deadline = time.monotonic() + self._settings.seconds
        number = 0
        while True:
            number += 1
            last = self._try(output, target, tick, seconds=max(1.0, deadline - time.monotonic()))
            pause = min(self._settings.retry_seconds * 2 ** (number - 1), self._settings.max_retry_seconds)
            is_over = number >= self._settings.tries or time.monotonic() + pause >= deadline
            if last.error is None or last.final or is_over:
                return self._result(target, number, last)
            get_logger(__name__).warning("delivery failed", attempt=number, error=last.error)
            _wait(pause, tick)

    def _try(self, output: Output, target: OutputTarget, tick: _LivenessCheck, *, seconds: float) -> _Response:
        header_names = {name.lower() for name in target.headers}
        headers = (
            dict(target.headers) if "content-type" in header_names else {"Content-Type": output.mime, **target.headers}
        )
        pieces = self._blobs.read(output.blob, 0, output.bytes)
        try:
            status = self._sender.send(target.url, headers, pieces, size=output.bytes, seconds=seconds, tick=tick)
        except (AttemptSuperseded, WorkerStopping):
            raise
        except NotFound as error:
            tick.check_now()
            return _Response(None, error.message, final=True)
        except AlphareelError as error:
            return _Response(None, error.message, not error.retryable)
        except Exception as error:  # noqa: BLE001  # a bug must not keep a made output from its client
            where = traceback.extract_tb(error.__traceback__)[-1]
            # not its text, which may quote the URL
            get_logger(__name__).error(
                "delivery broke", error=type(error).__name__, at=f"{where.filename}:{where.lineno}"
            )
            return _Response(None, f"Sending failed: {type(error).__name__}.", final=True)
        if 200 <= status < 300:
            return _Response(status, None, final=True)
        refused = 300 <= status < 500 and status not in _PASSING_REFUSALS
        return _Response(status, f"The receiver answered with status {status}.", refused)

    def _result(self, target: OutputTarget, attempts: int, last: _Response) -> OutputDelivery:
        status: Literal["delivered", "failed"] = "delivered" if last.error is None else "failed"
        return OutputDelivery(target.address, status, attempts, datetime.now(UTC), last.status_code, last.error)


class _LivenessCheck:
    """Ends a delivery whose job has changed, and records that it is alive."""

    def __init__(self, jobs: JobStore, job: Job, stopping: threading.Event) -> None:
        self._jobs = jobs
        self._job = job
        self._check = CancellationCheck(jobs, job, stopping)
        self._shown_at = time.monotonic()

    def __call__(self) -> None:
        """Raises AttemptSuperseded, WorkerStopping."""
        self._check(None)
        if time.monotonic() - self._shown_at >= _SIGN_OF_LIFE_SECONDS:
            self._shown_at = time.monotonic()
            with contextlib.suppress(Unavailable):
                self._jobs.set_progress(self._job.id, attempt=self._job.attempt, progress=self._job.progress)

    def check_now(self) -> None:
        """Raises AttemptSuperseded when the job has changed."""
        current = self._jobs.job(self._job.id)
        if current is None or current.ticket != self._job.ticket or current.undelivered is None:
            raise AttemptSuperseded


def _wait(seconds: float, tick: Callable[[], None]) -> None:
    until = time.monotonic() + seconds
    while (left := until - time.monotonic()) > 0:
        time.sleep(min(_POLL_SECONDS, left))
        tick()


def _warning(output: Output, delivery: OutputDelivery) -> str:
    host = urlsplit(delivery.url).hostname
    return f"{output.format}: not delivered to {host}: {delivery.error} The file can be downloaded here."
