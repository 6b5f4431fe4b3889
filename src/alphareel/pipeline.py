"""The main path: read, matte, compose, write; three overlapping stages, nothing held but a few frames.

``run`` is a generator of Progress: facts come as it goes, closing it cancels and leaves nothing behind.
"""

from collections.abc import Generator, Iterable
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np

from alphareel.compose import Composer, composer
from alphareel.domain.clip import Clip, EngineFacts, Limits, Progress, Result
from alphareel.domain.errors import BadVideo, InvalidRequest
from alphareel.domain.options import Options
from alphareel.frame import Frame, Matte
from alphareel.matting import tiers
from alphareel.matting.engine import Memory
from alphareel.media.read import open_reader
from alphareel.media.stills import read_still
from alphareel.media.verify import Verified, verify
from alphareel.media.write import Format, Target, format_named
from alphareel.meter import Meter
from alphareel.stages import Ahead


def run(
    source: Path,
    target: Path,
    options: Options | None = None,
    *,
    limits: Limits | None = None,
    models_dir: Path | None = None,
    threads: int | None = None,
) -> Generator[Progress, None, None]:
    """Remove the background of ``source`` and write ``target``; the last Progress carries the verified Result.

    ``target`` appears whole or not at all. Raises what ``domain.errors`` names: BadVideo, ModelUnavailable,
    StorageFailed, VerificationFailed and their kin.
    """
    if source.exists() and target.exists() and target.samefile(source):
        raise InvalidRequest("The target is the source itself.", hint="Name another file: the footage stays as it is.")
    options, limits = options or Options(), limits or Limits()
    with ExitStack() as opened:
        reader = opened.enter_context(open_reader(source, limits))
        chosen = tiers.choose(options, models_dir, threads)
        memory = chosen.engine.start(reader.clip, options)
        compose = composer(
            options,
            reader.clip,
            read_still=lambda path: read_still(Path(path), limits),
            open_video=lambda path: opened.enter_context(open_reader(Path(path), limits)),
        )
        form = format_named(options.output_format)
        sink = form.open(plan_target(source, target, reader.clip, compose, seconds=options.preview_duration))
        opened.callback(sink.abort)
        frames = reader.frames(thumbnail=memory.thumbnail, seconds=options.preview_duration)
        reading = opened.enter_context(Ahead(frames, name="read"))
        matting = opened.enter_context(Ahead(mattes(memory, reading), name="matte"))
        meter = Meter(reader.clip, options.preview_duration)
        for matte in matting:
            sink.write(*compose(matte))
            if meter.count(matte.frame):
                yield meter.report(reading, matting)
        if not meter.done:
            raise BadVideo("No frame of the video could be decoded.", hint="Play it to check it, or export it again.")
        verified = verify(sink.path, sink.finish())
        sink.publish()
        result = _result(
            target,
            verified,
            form=form,
            engine=chosen.engine.facts,
            frames_lost=reader.frames_lost,
            warnings=(*options.warnings(), *chosen.warnings, *sink.warnings),
        )
        yield replace(meter.report(reading, matting), share=1.0, remaining_seconds=0.0, result=result)


def mattes(memory: Memory, frames: Iterable[Frame]) -> Generator[Matte, None, None]:
    """A matte for each frame; where the source has alpha of its own, what it hides stays hidden."""
    for frame in frames:
        for matte in memory.step([frame]):
            yield matte if frame.alpha is None else _within_own_alpha(matte, frame)


def plan_target(source: Path, target: Path, clip: Clip, compose: Composer, *, seconds: float | None = None) -> Target:
    """What a sink is to write for this composition; sound comes along when the source has any."""
    return Target(
        path=target,
        clip=clip,
        width=compose.width,
        height=compose.height,
        has_alpha=compose.has_alpha,
        source=source if clip.audio else None,
        seconds=seconds,
    )


def _within_own_alpha(matte: Matte, frame: Frame) -> Matte:
    assert frame.alpha is not None
    return replace(matte, alpha=np.asarray(cv2.multiply(matte.alpha, frame.alpha, scale=1 / 255), np.uint8))


def _result(
    target: Path,
    verified: Verified,
    *,
    form: Format,
    engine: EngineFacts,
    frames_lost: int,
    warnings: tuple[str, ...],
) -> Result:
    return Result(
        path=str(target),
        format=form.name,
        mime=form.mime,
        bytes=verified.bytes,
        sha256=verified.sha256,
        frames=verified.frames,
        seconds=verified.seconds,
        width=verified.width,
        height=verified.height,
        has_alpha=verified.has_alpha,
        has_audio=verified.has_audio,
        engine=engine,
        frames_lost=frames_lost,
        warnings=warnings,
    )
