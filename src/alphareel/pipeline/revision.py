"""Makes the outputs of a corrected matte after those of a former run, for callers that keep no jobs."""

from collections.abc import Generator, Sequence
from contextlib import ExitStack, closing
from dataclasses import replace
from pathlib import Path
from typing import Any

from alphareel.domain.clip import PreviousOutput, Progress, Result
from alphareel.domain.options import LOSSLESS_MATTE, Output
from alphareel.media.ffmpeg_errors import translating_write_errors
from alphareel.media.matte_facts import read_matte_facts
from alphareel.media.partial_file import work_folder
from alphareel.paths import file_sha256
from alphareel.pipeline import splice
from alphareel.pipeline.run import check_outputs, matte_inputs, recipe_of


def run(
    source: Path,
    outputs: Sequence[Output],
    *,
    previous: Sequence[Result],
    matte: Path,
    overwrite: bool = False,
    **options: Any,
) -> Generator[Progress, None, None]:
    """Like ``splice.run``. ``previous``: all results of the former run, of one matte, which is among them.

    A file that has changed since then, or whose recipe no output has, is not used. Without a lossless matte among the
    outputs, one is written and removed again.
    """
    check_outputs(source, outputs, overwrite=overwrite, inputs=matte_inputs(matte, options.get("corrections", ())))
    with ExitStack() as stack:
        all_outputs = list(outputs)
        if not any(output.options.output_format == LOSSLESS_MATTE for output in outputs):
            with translating_write_errors(outputs[0].path):
                path = stack.enter_context(work_folder(outputs[0].path, "matte")) / "matte.mkv"
            all_outputs.append(Output(path, replace(outputs[0].options.matting_options, output_format=LOSSLESS_MATTE)))
        former = [_find(output, previous, matte) for output in all_outputs]
        steps = splice.run(source, all_outputs, previous=former, matte=matte, overwrite=overwrite, **options)
        for progress in stack.enter_context(closing(steps)):
            yield replace(progress, results=progress.results[: len(outputs)])


def _find(output: Output, previous: Sequence[Result], matte: Path) -> PreviousOutput | None:
    """The former file that the output follows, if it is as it was."""
    if output.options.output_format == LOSSLESS_MATTE:
        found = [result for result in previous if result.format == LOSSLESS_MATTE]
    else:
        recipe = recipe_of(output.options, read_matte_facts(matte).engine)
        found = [result for result in previous if result.recipe == recipe]
    for result in found:
        path = Path(result.path)
        if path.is_file() and file_sha256(path) == result.sha256:
            return PreviousOutput(path, result.recipe, result.frames_lost)
    return None
