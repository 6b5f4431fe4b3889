"""Makes the tasks of a job: what a child process or a runner is told to do, with the job's files as local ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from alphareel.domain import options as domain
from alphareel.domain.clip import PreviousOutput
from alphareel.domain.errors import NotFound, StorageFailed
from alphareel.domain.options import LOSSLESS_MATTE, Options
from alphareel.service.billing.credits import paid_seconds
from alphareel.service.files import blob_keys
from alphareel.service.jobs.models import Job, Kind
from alphareel.service.settings import Settings
from alphareel.service.uploads import source_urls
from alphareel.service.uploads.source_urls import SourceUrl
from alphareel.service.worker import inputs
from alphareel.service.worker.inputs import SOURCE, Inputs
from alphareel.service.worker.remote import LocalBlobs
from alphareel.service.worker.tasks import AnalyzeTask, InspectTask, ProofTask, RunTask


class JobTasks:
    """Makes tasks. Their files stay local as long as the ``opened`` that they were made with is open."""

    def __init__(self, inputs: Inputs, settings: Settings) -> None:
        self._inputs = inputs
        self._settings = settings

    def source(self, job: Job, opened: LocalBlobs) -> Path:
        """The job's source as a local file. Raises StorageFailed, NotFound."""
        return self._local_input(job, SOURCE, source_urls.source(job.video_url), opened)

    def inspect_task(self, source: Path) -> InspectTask:
        """Inspect the source."""
        return InspectTask(source, self._settings.limits.clip)

    def run_task(self, job: Job, source: Path, opened: LocalBlobs, folder: Path, *, previews: Path | None) -> RunTask:
        """Make the outputs of the job in ``folder``. ``previews``: the folder for previews."""
        return RunTask(
            source=source,
            outputs=requested_outputs(job, self._options(job, opened), folder),
            limits=self._settings.limits.clip,
            models_dir=self._settings.models.dir,
            engines=self._engines(job),
            threads=self._settings.worker.threads_per_job,
            previews=previews,
            matte=self._matte(job, opened),
            corrections=self._corrections(job, opened),
            previous=self._previous(job, opened),
            paid_seconds=paid_seconds(job),
            pipeline=self._settings.worker.pipeline,
        )

    def _matte(self, job: Job, opened: LocalBlobs) -> Path | None:
        """The matte that an export or a correction is made of, as a local file; None for other jobs."""
        key = (job.task or {}).get("matte")
        return None if key is None else opened.open(str(key))

    def _corrections(self, job: Job, opened: LocalBlobs) -> tuple[Mapping[str, Any], ...]:
        """The corrections of the matte, with their masks as local files."""
        paths = {url.url: self._local_input(job, name, url, opened) for url, name in inputs.mask_names(job).items()}
        corrections = (job.task or {}).get("corrections", ())
        ready = ({name: value for name, value in each.items() if name != "number"} for each in corrections)
        return tuple(each if "mask" not in each else {**each, "mask": str(paths[each["mask"]])} for each in ready)

    def _previous(self, job: Job, opened: LocalBlobs) -> tuple[PreviousOutput | None, ...]:
        """The files of the revision that a correction follows, as local ones; None for those that are gone."""

        def local(values: Mapping[str, Any]) -> PreviousOutput | None:
            with suppress(NotFound):
                path = opened.open(str(values["blob"]))
                return PreviousOutput(path, values.get("recipe"), int(values.get("frames_lost", 0)))
            return None

        return tuple(map(local, (job.task or {}).get("previous", ())))

    def proof_task(self, job: Job, source: Path, folder: Path) -> ProofTask:
        """Make the sheet of a proof in ``folder``."""
        return ProofTask(
            source=source,
            target=folder / "sheet.png",
            options=job.options,
            limits=self._settings.limits.clip,
            engines=tuple((job.task or {}).get("engines", ())),
            models_dir=self._settings.models.dir,
            threads=self._settings.worker.threads_per_job,
        )

    def analyze_task(self, job: Job, source: Path, opened: LocalBlobs, folder: Path) -> AnalyzeTask:
        """Analyze the matte of a job; pictures go to a folder in ``folder``."""
        return AnalyzeTask(
            source=source,
            matte=self._matte(job, opened),
            folder=folder / "analysis",
            options=job.options,
            limits=self._settings.limits.clip,
            models_dir=self._settings.models.dir,
            engines=self._engines(job),
            threads=self._settings.worker.threads_per_job,
        )

    def _engines(self, job: Job) -> tuple[str, ...] | None:
        engines = self._settings.models.priorities.get(job.options.model)
        return None if engines is None else tuple(engines)

    def _options(self, job: Job, opened: LocalBlobs) -> list[Options]:
        """The options of each output, with the background as a local file."""
        paths = {url: self._local_input(job, name, url, opened) for url, name in inputs.background_names(job).items()}
        urls = map(source_urls.background, job.requested)
        return [
            options if url is None else source_urls.with_local_background(options, paths[url])
            for options, url in zip(job.requested, urls, strict=True)
        ]

    def _local_input(self, job: Job, name: str, url: SourceUrl, opened: LocalBlobs) -> Path:
        """One of the job's input files as a local file, as long as ``opened`` is open."""
        try:
            return opened.open(self._inputs.blob(job, name, url))
        except NotFound as error:
            if self._inputs.missing(job):
                raise StorageFailed("A file that was fetched for the job is gone from the store.") from error
            raise


def requested_outputs(job: Job, requested: Sequence[Options], folder: Path) -> tuple[domain.Output, ...]:
    """The files that a run of the job writes into ``folder``: its outputs in order, then the matte if it is kept."""
    names = [blob_keys.result_name(requested[0].output_format)]
    names += [blob_keys.output_name(options.output_format) for options in requested[1:]]
    outputs = [domain.Output(folder / name, options) for name, options in zip(names, requested, strict=True)]
    if job.keep_matte and job.kind in (Kind.JOB, Kind.CORRECTION):
        options = replace(requested[0].matting_options, output_format=LOSSLESS_MATTE)
        outputs.append(domain.Output(folder / f"kept-{blob_keys.output_name(LOSSLESS_MATTE)}", options))
    return tuple(outputs)
