"""``alphareel export``: further outputs of a kept matte, of a file here or of a job on a server."""

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import cyclopts

import alphareel
from alphareel.cli.console import stdout
from alphareel.cli.cut import Background, Format, ModelsDir, Overwrite, PosterTime, Quality, ResultsAsJson, Threads
from alphareel.cli.results import print_results, progress_bar
from alphareel.cli.signals import interruptible
from alphareel.cli.targets import OWN_FILES, check_source, plan_targets
from alphareel.domain import errors

if TYPE_CHECKING:
    from alphareel.cli.service_client import ServiceClient

_JOB = re.compile(r"job_[0-9a-f]{40}")

_What = Annotated[str, cyclopts.Parameter(help="A lossless matte, or the ID of a job on the server.")]
_Paths = Annotated[Path, cyclopts.Parameter(help="For a matte: its source video, then the files to write; else these.")]


def export(
    matte: _What,
    /,
    *paths: _Paths,
    background: Background = None,
    format: Format = None,  # noqa: A002 - the flag is called --format
    quality: Quality = None,
    poster_time: PosterTime = None,
    models_dir: ModelsDir = None,
    threads: Threads = None,
    overwrite: Overwrite = False,
    as_json: ResultsAsJson = False,
) -> None:
    """Write further outputs of a matte that was kept: alphareel export MATTE SOURCE TARGET..., or JOB TARGET...

    No network runs, so this is as fast as the encoder. For a job, ALPHAREEL_BASE_URL and ALPHAREEL_API_KEY name its
    server and key.

    Parameters
    ----------
    models_dir
        Folder with model weights. Default: models in the data folder.
    """
    values = {"background": background, "output_format": format, "quality": quality}
    if _JOB.fullmatch(matte):
        _export_job(matte, paths, values, poster_time=poster_time, overwrite=overwrite, as_json=as_json)
        return
    if len(paths) < 2:
        raise errors.InvalidRequest(
            "A matte needs its source and a target.", hint="alphareel export matte.mkv video.mp4 result.webm"
        )
    source, *targets = paths
    for video in (Path(matte), source):
        check_source(video, "export")
    with interruptible(), progress_bar(source.name) as show:
        results = alphareel.export(
            matte,
            source,
            targets=plan_targets(source, targets, values, overwrite=overwrite),
            poster_time=poster_time,
            limits=OWN_FILES,
            models_dir=models_dir,
            threads=threads,
            overwrite=overwrite,
            on_progress=show,
        )
    assert isinstance(results, tuple)
    print_results(results, as_json=as_json, model=None)


def _export_job(
    job_id: str,
    targets: Sequence[Path],
    values: dict[str, Any],
    *,
    poster_time: float | None,
    overwrite: bool,
    as_json: bool,
) -> None:
    """Let the server export, then download each file."""
    from alphareel.cli.service_client import open_service
    from alphareel.media.atomic_file import refuse_existing

    if not targets:
        raise errors.InvalidRequest("There is no target.", hint=f"alphareel export {job_id} result.mov")
    planned = plan_targets(Path(job_id), targets, values, overwrite=overwrite)
    for path in () if overwrite else planned:
        refuse_existing(path)
    written = []
    with interruptible(), open_service() as service:
        for path, own in planned.items():
            body = {"format": _format_of(path, own), "quality": own["quality"], "poster_time": poster_time}
            body["background"] = _uploaded(service, own["background"])
            export = service.call("POST", f"/v1/jobs/{job_id}/exports", body)
            finished_export = service.wait(f"/v1/jobs/{job_id}/exports/{export['id']}")
            service.download(
                finished_export["output_url"], path, sha256=finished_export["output"]["sha256"], overwrite=overwrite
            )
            written.append({"path": str(path), **finished_export["output"]})
            if not as_json:
                stdout.print(f"{path}", soft_wrap=True)
    if as_json:
        print(json.dumps(written, indent=2))  # noqa: T201 - this is the output


def _uploaded(service: "ServiceClient", background: str | None) -> Any:
    """The background as the server knows it: a file is uploaded first."""
    if background is None or not Path(background).is_file():
        return background
    kind = alphareel._background_file(Path(background))["type"]  # noqa: SLF001 - the command is part of the library
    return {"type": kind, f"{kind}_url": service.upload(Path(background))}


def _format_of(path: Path, own: dict[str, Any]) -> str:
    from alphareel.media.format import format_for_suffix

    return str(own.get("output_format") or format_for_suffix(path.suffix).name)
