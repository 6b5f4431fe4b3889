"""Applies corrections to a lossless matte: finds what they change, before a run rewrites the outputs."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from fractions import Fraction
from functools import cached_property
from pathlib import Path

import cv2
import numpy as np

from alphareel.domain.clip import Chunk, Clip, Limits
from alphareel.domain.corrections import Correction
from alphareel.domain.errors import FieldProblem, InvalidRequest
from alphareel.imaging.frame import Frame, Plane
from alphareel.matting import correction as matting
from alphareel.matting import spread as spreading
from alphareel.matting import subject_identifier
from alphareel.matting.correction import Click, FramePatch, SmallFrame
from alphareel.matting.features import FeatureExtractor, detail_of, load_features
from alphareel.matting.model_input import fit_size
from alphareel.matting.runtime import Array, Runtime
from alphareel.matting.subject_identifier import SubjectIdentifier
from alphareel.media.brush import Brush, read_brush
from alphareel.media.reader import Reader, open_reader
from alphareel.pipeline.kept_matte import MatteReader
from alphareel.pipeline.plans import CorrectionPlan, PlanStore

SUBJECT_PREFIX = "s"
_LEAD = 2  # frames read before those that are wanted: deinterlacing looks at them


@dataclass
class MatteEdits:
    """What corrections change, by the frame's timestamp in ticks, and which subjects are dropped.

    ``plans``: for the next revision, see ``pipeline.plans``.
    """

    patches: dict[int, FramePatch] = field(default_factory=dict)
    selections: tuple["SubjectSelection", ...] = ()
    plans: dict[str, bytes] = field(default_factory=dict)

    def apply(self, frame: Frame, alpha: Plane) -> Plane:
        """The corrected alpha. Frames must come in order."""
        selected = [selection.mask(frame, alpha) for selection in self.selections]
        patch = self.patches.get(frame.pts)
        corrected = alpha if patch is None else patch.apply(frame, alpha)
        for mask in selected:
            corrected = np.asarray(cv2.multiply(corrected, mask, scale=1 / 255), np.uint8)
        return corrected


class SubjectSelection:
    """Keeps or drops subjects of a matte by their IDs."""

    def __init__(self, *, keep: Sequence[str], drop: Sequence[str]) -> None:
        self._keep = {number for number in map(subject_number, keep) if number}
        self._drop = {number for number in map(subject_number, drop) if number}
        self._keeps = bool(keep)
        self._identifier = SubjectIdentifier()

    def apply(self, frame: Frame, alpha: Plane) -> Plane:
        """The alpha without the subjects that go."""
        return np.asarray(cv2.multiply(alpha, self.mask(frame, alpha), scale=1 / 255), np.uint8)

    def mask(self, frame: Frame, alpha: Plane) -> Plane:
        """255 where the matte stays, 0 around subjects that are dropped, uint8 (H, W)."""
        picture, small = small_views(frame, alpha, area=subject_identifier.AREA)
        labels = self._identifier.add(picture, small)
        if self._keeps:
            dropped = (labels > 0) & ~np.isin(labels, list(self._keep))
        else:
            dropped = np.isin(labels, list(self._drop))
        if not dropped.any():
            return np.full(alpha.shape, 255, np.uint8)
        kept = (labels > 0) & ~dropped
        nearer_dropped = _distance(dropped) < _distance(kept)
        size = (alpha.shape[1], alpha.shape[0])
        return np.asarray(cv2.resize(np.where(nearer_dropped, 0, 255).astype(np.uint8), size), np.uint8)


def subject_id(number: int) -> str:
    return f"{SUBJECT_PREFIX}{number}"


def subject_number(identifier: str) -> int | None:
    """The number in a subject's ID; None for other texts."""
    digits = identifier.removeprefix(SUBJECT_PREFIX)
    return int(digits) if identifier.startswith(SUBJECT_PREFIX) and digits.isascii() and digits.isdigit() else None


def plan_edits(
    source: Path,
    matte: Path,
    corrections: Sequence[Correction],
    limits: Limits,
    *,
    seconds: float | None = None,
    threads: int | None = None,
    plans: Mapping[str, bytes] | None = None,
) -> MatteEdits:
    """What the corrections change, in their order. ``seconds``: the matte ends there; None for the clip's end.

    ``plans``: those of the revision before, of which those that still hold are not made again. Each correction spreads
    from its frame until a cut, the next corrected frame, or until the engine is right again. Raises InvalidRequest for
    a frame outside the clip, a point outside the frame or a mask of another size.
    """
    edits = MatteEdits(
        selections=tuple(SubjectSelection(keep=c.keep, drop=c.drop) for c in corrections if c.selects_subjects)
    )
    pointed = [c for c in corrections if not c.selects_subjects]
    if not pointed:
        return edits
    with open_reader(source, limits) as reader:
        clip = reader.clip
        ticks = _ticks(reader, pointed, seconds)
    cache = _PlanCache(PlanStore.open(plans or {}, source, matte, threads=threads), clip, threads)
    corrected_ticks = sorted(set(ticks))
    for tick in corrected_ticks:
        own = [c for c, t in zip(pointed, ticks, strict=True) if t == tick]
        position = corrected_ticks.index(tick)
        lower = corrected_ticks[position - 1] if position else None
        upper = corrected_ticks[position + 1] if position + 1 < len(corrected_ticks) else None
        window = _Window(source, matte, clip, limits, seconds=seconds, tick=tick, lower=lower, upper=upper)
        for pts, patch in cache.plan(window, own):
            edits.patches.setdefault(pts, patch)
    edits.plans.update(cache.store.used)
    return edits


@dataclass
class _PlanCache:
    """Plans the corrections of a frame, unless a plan of the revision before still holds."""

    store: PlanStore
    clip: Clip
    threads: int | None

    @cached_property
    def features(self) -> FeatureExtractor:
        matrix, full_range = self.clip.color.resolved_matrix(self.clip.height), self.clip.color.full_range
        return load_features(Runtime(threads=self.threads), matrix=matrix, full_range=full_range)

    def plan(self, window: "_Window", corrections: Sequence[Correction]) -> Iterator[tuple[int, FramePatch]]:
        name = self.store.name(window.tick, corrections)
        found = self.store.find(name, window.start, window.end)
        if found is not None:
            return found.within(window.start, window.end)
        patches = dict(sorted(_correct(window, corrections, self.features)))
        self.store.add(name, CorrectionPlan(window.start, window.end, patches))
        return iter(patches.items())


@dataclass(frozen=True)
class _Window:
    """The part of a clip that a correction may reach. ``lower``, ``upper``: ticks of the corrected frames around it."""

    source: Path
    matte: Path
    clip: Clip
    limits: Limits
    seconds: float | None
    tick: int
    lower: int | None
    upper: int | None

    @property
    def reach(self) -> int:
        """Ticks to which a correction spreads at most."""
        return round(spreading.MAX_FRAMES / self.clip.rate / self.clip.time_base)

    @property
    def start(self) -> int:
        return max(0, self.tick - self.reach, 0 if self.lower is None else self.lower + 1)

    @property
    def end(self) -> int:
        """The tick before which the last frame is."""
        return min(self.tick + self.reach, self.upper or self.tick + self.reach)

    def frames(self) -> Iterator[tuple[Frame, Plane]]:
        """Frames and alphas from ``start`` on."""
        with ExitStack() as stack:
            reader = stack.enter_context(open_reader(self.source, self.limits))
            mattes = stack.enter_context(open_reader(self.matte, Limits(0, 0, 0, 0)))
            alphas: MatteReader | None = None
            frames = stack.enter_context(closing(reader.chunk(Chunk(self.start, self.end, 0), lead=_LEAD)))
            for frame in frames:
                if frame.pts < self.start:
                    continue
                moment = frame.pts * self.clip.time_base
                if self.seconds is not None and float(moment) >= self.seconds:
                    return
                if alphas is None:
                    alphas = MatteReader(mattes, moment, self.clip.rate)
                yield frame, alphas.alpha_at(moment)


def _correct(
    window: _Window, corrections: Sequence[Correction], features: FeatureExtractor
) -> Iterator[tuple[int, FramePatch]]:
    """Patches of the corrected frame and of those to which its corrections spread."""
    earlier: list[SmallFrame] = []
    frames = window.frames()
    with closing(frames):  # type: ignore[type-var]
        for frame, alpha in frames:
            current = small_frame(frame, alpha)
            if frame.pts < window.tick:
                earlier.append(current)
                continue
            corrected, exact = _on_frame(frame, current, alpha, corrections, window.limits)
            yield frame.pts, matting.make_patch(current.alpha, corrected, exact)
            yield from spreading.spread(current, corrected, reversed(earlier), features.extract)
            later = (small_frame(f, a) for f, a in frames)
            yield from spreading.spread(current, corrected, later, features.extract)
            return


def _on_frame(
    frame: Frame, small: SmallFrame, alpha: Plane, corrections: Sequence[Correction], limits: Limits
) -> tuple[Array, Plane | None]:
    """The corrected small alpha, and the full-size one where a mask gives it exactly.

    Corrections build on each other in their order; in one of them the mask comes last, over what clicks and box made.
    """
    corrected, exact = small.alpha, None
    height, width = small.alpha.shape
    scale = (width / alpha.shape[1], height / alpha.shape[0])
    for correction in corrections:
        _check_points(correction, alpha)
        box = None if correction.box is None else _scaled_box(correction.box, scale)
        clicks = [Click(p.x * scale[0], p.y * scale[1], p.label == "keep") for p in correction.points]
        if clicks or box is not None:
            before, current = corrected, alpha if exact is None else exact
            if clicks:
                corrected = matting.correct_by_clicks(small.picture, corrected, clicks, box)
            elif box is not None:
                corrected = matting.correct_by_box(small.picture, corrected, box)
            if exact is not None:
                exact = matting.make_patch(before, corrected).apply(frame, current)
        if correction.mask is not None:
            brush = read_brush(Path(correction.mask), limits)
            _check_brush(brush, alpha)
            if (clicks or box is not None) and (brush.paint == 255).all():
                raise _refused("mask_url", "covers the whole frame, so points and box change nothing: leave them out.")
            if exact is None:
                exact = matting.make_patch(small.alpha, corrected).apply(frame, alpha)
            exact = brush.apply(exact)
            corrected = _small(exact, (width, height))
    return corrected, exact


def _check_brush(brush: Brush, alpha: Plane) -> None:
    if brush.shape != alpha.shape:
        (height, width), (own_height, own_width) = alpha.shape, brush.shape
        raise _refused("mask_url", f"the mask has {own_width}x{own_height} pixels, the video {width}x{height}.")


def _check_points(correction: Correction, alpha: Plane) -> None:
    height, width = alpha.shape
    for index, point in enumerate(correction.points):
        if point.x >= width or point.y >= height:
            raise _refused(f"points.{index}", f"is outside the video of {width}x{height} pixels.")
    if correction.box is not None and (correction.box[0] >= width or correction.box[1] >= height):
        raise _refused("box", f"is outside the video of {width}x{height} pixels.")


def _scaled_box(
    box: tuple[float, float, float, float], scale: tuple[float, float]
) -> tuple[float, float, float, float]:
    x, y, width, height = box
    return x * scale[0], y * scale[1], width * scale[0], height * scale[1]


def _ticks(reader: Reader, corrections: Sequence[Correction], seconds: float | None) -> list[int]:
    """The timestamp of the frame that each correction names. Raises InvalidRequest when the clip has none."""
    base = reader.clip.time_base
    latest = max((correction.time or 0 for correction in corrections), default=0)
    ticks: dict[int, int] = {}
    end = Fraction(0)
    for count, frame in enumerate(reader.frames(seconds=seconds)):
        time = frame.pts * base
        ticks |= {n: frame.pts for n, correction in enumerate(corrections) if _names(correction, count, time)}
        end = time + max(frame.duration, 1) * base
        if time > latest and all(c.time is not None or n in ticks for n, c in enumerate(corrections)):
            break
    for number, correction in enumerate(corrections):
        if number not in ticks or (correction.time is not None and correction.time > end):
            name = "frame" if correction.frame is not None else "time"
            raise _refused(name, f"the clip ends at {float(end):.2f} s.")
    return [ticks[number] for number in range(len(corrections))]


def _names(correction: Correction, count: int, time: Fraction) -> bool:
    """Whether a correction is for this frame, so far: the one with its number, or the last one up to its time."""
    if correction.time is None:
        return correction.frame == count
    return time <= Fraction(correction.time).limit_denominator(10**6) + Fraction(1, 10**4)


def small_frame(frame: Frame, alpha: Plane) -> SmallFrame:
    """A frame of the clip and its alpha, uint8 (H, W), as corrections see them."""
    picture, small = small_views(frame, alpha)
    return SmallFrame(frame.pts, picture, small, detail_of(frame, picture))


def small_views(frame: Frame, alpha: Plane, *, area: int = matting.AREA) -> tuple[Plane, Array]:
    """The picture as uint8 Y, U, V (h, w, 3) of about ``area`` pixels, and alpha float32 (h, w) in 0..1."""
    size = fit_size(frame.width, frame.height, area=area, multiple=4)
    planes = [cv2.resize(p, size, interpolation=cv2.INTER_AREA) for p in (frame.y, frame.u, frame.v)]
    return np.dstack(planes), _small(alpha, size)


def _small(alpha: Plane, size: tuple[int, int]) -> Array:
    return np.asarray(cv2.resize(alpha, size, interpolation=cv2.INTER_AREA), np.float32) / np.float32(255)


def _distance(mask: "np.ndarray[tuple[int, ...], np.dtype[np.bool_]]") -> Array:
    if not mask.any():
        return np.full(mask.shape, np.inf, np.float32)
    return np.asarray(cv2.distanceTransform((~mask).astype(np.uint8), cv2.DIST_L2, 3), np.float32)


def _refused(name: str, message: str) -> InvalidRequest:
    return InvalidRequest(f"{name}: {message}", details=[FieldProblem(name, message)])
