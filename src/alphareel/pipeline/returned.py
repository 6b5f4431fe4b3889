"""Verifies outputs that another machine made, which is not trusted, as closely as a run verifies its own.

A run compares its files with what it wrote. Here is nothing to compare with but the source and the options: a file must
open, hold what the format and the options say, and be as long as the source. What its pictures show is not examined.
"""

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

from alphareel.domain.clip import Chunk, Clip, EngineFacts, Limits, Result
from alphareel.domain.errors import VerificationFailed
from alphareel.domain.options import Output
from alphareel.matting import tiers
from alphareel.media.output_file import VerificationProfile
from alphareel.media.reader import open_reader
from alphareel.media.verify import Inspection, Verified, inspect_video, verify
from alphareel.pipeline.run import AmountRead, PendingOutput, open_output, result_of

_SECONDS = 1.0  # by which an output may be shorter or longer than its source, and
_SHARE = 0.02  # the same as a share; streams end at different times, and headers round
_MAX_WARNINGS, _MAX_WARNING_LENGTH = 20, 400
_MOMENTS = 4  # of an output, at which its alpha is decoded


def verify_returned(
    source: Path,
    outputs: Sequence[Output],
    reported: Sequence[Result],
    *,
    engine: EngineFacts | str,
    limits: Limits,
    chunk: Chunk | None = None,
    paid_seconds: float | None = None,
) -> tuple[Result, ...]:
    """The results of these files, which are at the paths of the outputs, from what is in them.

    ``reported``: by the other machine. Only facts that the files do not show are taken from it: the engine, if it is
    ``engine`` (its facts, or a name), lost frames and warnings. Raises VerificationFailed when anything differs.
    """
    if len(reported) != len(outputs):
        raise _refused(f"there are {len(reported)} results instead of {len(outputs)}")
    with open_reader(source, limits) as reader:
        clip = reader.clip if chunk is None else replace(reader.clip, audio=None)
    whole = inspect_video(source, ())
    results = []
    for output, claimed in zip(outputs, reported, strict=True):
        _check_engine(claimed.engine, engine)
        expected = _expected_length(output, clip, whole, chunk)
        if chunk is not None:  # a run of a chunk counts from the start of the clip, and joining counts again
            claimed = replace(claimed, source_seconds=None)  # noqa: PLW2901
        _check_source(claimed, expected[0], clip)
        results.append(
            _verify_output(source, output, clip, limits, claimed=claimed, expected=expected, paid_seconds=paid_seconds)
        )
    return tuple(results)


def _verify_output(
    source: Path,
    output: Output,
    clip: Clip,
    limits: Limits,
    *,
    claimed: Result,
    expected: tuple[float, float],
    paid_seconds: float | None,
) -> Result:
    seconds, frames = expected
    with ExitStack() as stack:
        scratch = output.path.with_name(f"expected-{output.path.name}")
        # what would have written the output says how it is verified
        pending = open_output(replace(output, path=scratch), source, clip, limits, stack, tags={}, overwrite=True)
        is_still = pending.output_format.still
        profile = pending.output_file.verification
        if not is_still and not profile.min_frame_duration and not _is_near(claimed.frames, frames, slack=2):
            raise _refused(f"it holds {claimed.frames} frames, and its source {frames:.0f}")
        if not is_still and not _is_near(claimed.seconds, seconds, slack=_SECONDS):
            raise _refused(f"it lasts {claimed.seconds:.3f} s, and its source {seconds:.3f} s")
        has_audio = clip.audio is not None and pending.output_format.audio
        expectation = pending.output_file.expect(frames=claimed.frames, seconds=claimed.seconds, has_audio=has_audio)
        verified = verify(output.path, expectation)
        if claimed.sha256 != verified.sha256:
            raise _refused("it is not the file that was announced")
        if verified.has_alpha:
            _check_alpha(output.path, profile, verified, pending)
    amount = AmountRead(
        seconds=min(seconds, claimed.source_seconds or seconds),
        frames=min(claimed.source_frames or claimed.frames, round(frames) + 2),
        pixels=clip.width * clip.height,
        frames_lost=max(0, min(claimed.frames_lost, round(frames))),
    )
    warnings = tuple(_plain(text) for text in claimed.warnings[:_MAX_WARNINGS])
    if paid_seconds is not None and amount.seconds > paid_seconds + _SECONDS:
        raise _refused(f"{amount.seconds:.1f} s were processed and {paid_seconds:.1f} s were paid")
    return result_of(output, pending.output_format, verified, claimed.engine, amount, warnings=warnings)


def _check_alpha(path: Path, profile: VerificationProfile, verified: Verified, pending: PendingOutput) -> None:
    """Decode the alpha at a few moments."""
    moments = tuple(Fraction(verified.seconds).limit_denominator(1000) * n / _MOMENTS for n in range(_MOMENTS))
    size = (pending.compose.height, pending.compose.width)
    for moment, alpha in zip(moments, profile.inspect(path, moments).alphas, strict=True):
        if alpha is None or alpha.shape != size:
            raise _refused(f"its alpha at {float(moment):.2f} s cannot be decoded")


def _expected_length(output: Output, clip: Clip, whole: Inspection, chunk: Chunk | None) -> tuple[float, float]:
    """Seconds and frames of the output, from the packets of its source."""
    seconds, frames = whole.seconds, float(whole.frames)
    if chunk is not None:
        end = Fraction(whole.seconds) if chunk.end is None else chunk.end * clip.time_base
        seconds, frames = float(end - chunk.start * clip.time_base), float(chunk.frames)
    limit = output.options.preview_duration
    if limit is not None and limit < seconds and seconds > 0:
        seconds, frames = limit, frames * limit / seconds
    return seconds, frames


def _check_source(claimed: Result, seconds: float, clip: Clip) -> None:
    if claimed.source_seconds is not None and not _is_near(claimed.source_seconds, seconds, slack=_SECONDS):
        raise _refused(f"{claimed.source_seconds:.3f} s of the source were processed, and it lasts {seconds:.3f} s")
    if claimed.source_pixels is not None and claimed.source_pixels != clip.width * clip.height:
        raise _refused("it was made of another source")


def _check_engine(claimed: EngineFacts, engine: EngineFacts | str) -> None:
    if isinstance(engine, EngineFacts):
        if claimed != engine:
            raise _refused(f"{claimed.name} {claimed.version} made it, with other weights than {engine.name}'s here")
        return
    if claimed.name != engine:
        raise _refused(f"the engine {claimed.name[:60]} made it instead of {engine}")
    module = tiers.load_module(engine)
    weights = getattr(module, "WEIGHTS", None)
    is_known = weights is None or not weights.sha256 or claimed.weights_sha256 in weights.sha256
    if not is_known or claimed != module.INFO.facts(claimed.weights_sha256, version=claimed.version):
        raise _refused(f"another version of the engine {engine} made it")


def _is_near(actual: float, expected: float, *, slack: float) -> bool:
    return abs(actual - expected) <= slack + _SHARE * expected


def _plain(text: str) -> str:
    return "".join(character for character in text if character.isprintable())[:_MAX_WARNING_LENGTH]


def _refused(problem: str) -> VerificationFailed:
    return VerificationFailed(f"A file from a runner failed verification: {problem}.", hint="Run it again.")
