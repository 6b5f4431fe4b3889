"""A proof: a few frames of a clip, cut out by several engines, side by side, with the time that each takes."""

import time
from collections.abc import Callable, Generator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median

import cv2
import numpy as np

from alphareel.domain.clip import Chunk, Clip, EngineFacts, Limits, Progress
from alphareel.domain.errors import AlphareelError, BadVideo
from alphareel.domain.options import Options
from alphareel.imaging.color import yuv_to_rgb
from alphareel.imaging.frame import Frame, Matte
from alphareel.imaging.sheet import Picture, blank, labeled, over_checkers, png, stacked
from alphareel.matting import tiers
from alphareel.matting.engine import Engine, MattingSession, RequiresScene
from alphareel.media.atomic_file import write_file
from alphareel.media.reader import Reader, open_reader
from alphareel.paths import file_sha256
from alphareel.pipeline.run import start_session

FRAMES = 6
_CELL_WIDTH = 320
_LEAD = 4  # frames before each one, for engines that depend on earlier frames


@dataclass(frozen=True)
class EngineProof:
    """What an engine made of the frames. ``seconds_per_frame``: None where it failed, for the reason ``error``."""

    name: str
    seconds_per_frame: float | None
    facts: EngineFacts | None = None
    error: str | None = None


@dataclass(frozen=True)
class Proof:
    """A finished proof. ``path``: the sheet, a PNG: a row of source frames, then a row for each engine.

    ``moments``: seconds of the frames. ``seconds``, ``frames``: of the whole clip, 0 when unknown.
    """

    path: str
    bytes: int
    sha256: str
    width: int
    height: int
    seconds: float
    frames: int
    moments: tuple[float, ...]
    engines: tuple[EngineProof, ...]


def prove(
    source: Path,
    target: Path,
    engines: Sequence[str],
    *,
    options: Options | None = None,
    limits: Limits | None = None,
    models_dir: Path | None = None,
    threads: int | None = None,
    overwrite: bool = False,
) -> Generator[Progress | Proof, None, None]:
    """Write the sheet ``target`` of ``source`` with these engines. Yields progress, and the Proof at the end.

    An engine that fails has an empty row and its error in the proof. Raises BadVideo, StorageFailed, TargetExists.
    """
    limits, began = limits or Limits(), time.perf_counter()
    live_options = replace(options or Options(), smoothing="live")

    def load(name: str) -> Engine:
        return tiers.choose(replace(live_options, engine=name), models_dir, threads).engine

    def start(engine: Engine) -> MattingSession:
        return start_session(engine, source, reader.clip, replace(live_options, engine=engine.facts.name), limits)

    with open_reader(source, limits) as reader:
        clip = reader.clip
        moments = _moments(clip)
        originals = [_cell(_frame_at(reader, moment, size=None), clip) for moment in moments]
        rows = [_row([labeled(o, f"source {m:.2f} s") for o, m in zip(originals, moments, strict=True)])]
        proofs = []
        for number, name in enumerate(engines):
            yield _progress(number, len(engines), began)
            try:
                cells, proof = _prove_engine(reader, start, load(name), moments)
            except AlphareelError as error:
                cells, proof = [blank(o) for o in originals], EngineProof(name, None, error=str(error))
            proofs.append(proof)
            rows.append(_row([labeled(cell, _label(proof) if n == 0 else "") for n, cell in enumerate(cells)]))
    sheet = stacked(rows, axis=0)
    write_file(target, png(sheet), overwrite=overwrite)
    yield Proof(
        path=str(target),
        bytes=target.stat().st_size,
        sha256=file_sha256(target),
        width=int(sheet.shape[1]),
        height=int(sheet.shape[0]),
        seconds=clip.seconds,
        frames=clip.frames,
        moments=tuple(moments),
        engines=tuple(proofs),
    )


def _moments(clip: Clip) -> list[float]:
    """Seconds of the frames, spread over the clip; the first frames where its length is unknown."""
    length = clip.seconds or FRAMES / float(clip.rate)
    return [round(length * (n + 0.5) / FRAMES, 3) for n in range(FRAMES)]


def _prove_engine(
    reader: Reader, start: Callable[[Engine], MattingSession], engine: Engine, moments: Sequence[float]
) -> tuple[list[Picture], EngineProof]:
    session, seconds, cells = None, [], []
    for moment in moments:
        if session is None or not isinstance(session, RequiresScene):  # reading the scene once is enough
            session = start(engine)
        matte, spent = _matte_at(reader, session, moment)
        seconds.append(spent)
        cells.append(_cut_out(matte, reader.clip))
    return cells, EngineProof(engine.facts.name, round(median(seconds), 4), engine.facts)


def _matte_at(reader: Reader, session: MattingSession, moment: float) -> tuple[Matte, float]:
    """The matte of the frame at a moment, after the frames before it, and the seconds that it took."""
    size = session.model_input_size
    with closing(_frames_from(reader, moment, size)) as frames:
        for frame, is_wanted in frames:
            began = time.perf_counter()
            (matte,) = session.step([frame])
            if is_wanted:
                return matte, time.perf_counter() - began
    raise _no_frame(moment)


def _frame_at(reader: Reader, moment: float, size: tuple[int, int] | None) -> Frame:
    with closing(_frames_from(reader, moment, size)) as frames:
        for frame, is_wanted in frames:
            if is_wanted:
                return frame
    raise _no_frame(moment)


def _frames_from(
    reader: Reader, moment: float, size: tuple[int, int] | None
) -> Generator[tuple[Frame, bool], None, None]:
    """A few frames before a moment, then the one at it, and whether it is that one. The last frame is a fallback."""
    tick = int(moment / reader.clip.time_base)
    for frame in reader.chunk(Chunk(tick, None, 0), size, lead=_LEAD):
        end = frame.pts + (frame.duration or 1)
        yield frame, end > tick
        if end > tick:
            return


def _cell(frame: Frame, clip: Clip) -> Picture:
    """The frame at cell size, in RGB."""
    height = max(2, round(_CELL_WIDTH * clip.height / clip.width))
    matrix, offset = yuv_to_rgb(clip.color.resolved_matrix(clip.height), full_range=clip.color.full_range)
    size = (_CELL_WIDTH, height)
    planes = cv2.merge([cv2.resize(p, size, interpolation=cv2.INTER_AREA) for p in (frame.y, frame.u, frame.v)])
    return np.asarray(cv2.transform(planes, np.concatenate([matrix, offset[:, None]], axis=1)), np.uint8)


def _cut_out(matte: Matte, clip: Clip) -> Picture:
    cell = _cell(matte.frame, clip)
    size = (cell.shape[1], cell.shape[0])
    return over_checkers(cell, np.asarray(cv2.resize(matte.alpha, size, interpolation=cv2.INTER_AREA), np.uint8))


def _row(cells: Sequence[Picture]) -> Picture:
    return stacked(cells, axis=1)


def _label(proof: EngineProof) -> str:
    if proof.seconds_per_frame is None:
        return f"{proof.name}: {proof.error}"[:40]
    return f"{proof.name}: {proof.seconds_per_frame:.3g} s a frame"


def _progress(done: int, total: int, began: float) -> Progress:
    return Progress(
        done=done,
        total=total,
        share=(done + 0.5) / (total + 1),
        seconds=time.perf_counter() - began,
        fps=0.0,
        remaining_seconds=None,
    )


def _no_frame(moment: float) -> BadVideo:
    return BadVideo(f"The video has no frame at {moment:.2f} s.", hint="Play it to check it, or export it again.")
