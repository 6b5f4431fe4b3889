"""Analyzes a finished matte: its quality over time, its worst moments, and the subjects in it."""

from collections.abc import Generator, Iterator, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from alphareel.domain.clip import Clip, Limits, Progress
from alphareel.domain.options import Options
from alphareel.imaging.color import yuv_to_rgb
from alphareel.imaging.frame import Frame, Plane
from alphareel.matting import subject_identifier, tiers
from alphareel.matting.quality import FrameQuality, QualityMeter
from alphareel.matting.subject_identifier import Subject, SubjectIdentifier
from alphareel.media.matte_facts import read_matte_facts
from alphareel.media.png import encode_small
from alphareel.media.reader import open_reader
from alphareel.media.verify import UNLIMITED
from alphareel.pipeline.corrections import small_views, subject_id
from alphareel.pipeline.kept_matte import MatteReader, check_size
from alphareel.pipeline.run import engine_mattes, start_session

STRIP = "quality.png"
WORST = 10
_MAX_POINTS = 600  # of a series in the report
_SAMPLES = 48  # frames of a clip without a matte that are analyzed
_MIN_FRAMES = 8  # in which a subject is seen, to be reported
_THUMBNAIL = 160  # longer side
_STRIP_SIZE = (960, 180)
_BACKGROUND = np.array([40, 90, 200], np.float32)
_HIGH_UNCERTAINTY, _HIGH_FLICKER = 0.02, 0.004


@dataclass
class _Moment:
    """One frame of the clip."""

    index: int
    seconds: float
    quality: FrameQuality
    thumbnail: Plane


def analyze(
    source: Path,
    matte: Path | None,
    folder: Path,
    *,
    options: Options | None = None,
    limits: Limits | None = None,
    models_dir: Path | None = None,
    engine_priority: Sequence[str] | None = None,
    threads: int | None = None,
) -> Generator[Progress, None, dict[str, Any]]:
    """Analyze ``matte``, the lossless matte of ``source``; without one, mattes that an engine makes of some frames.

    Returns the report as JSON, and writes its pictures (PNG) into ``folder``: the strip over time, a thumbnail of each
    of the ten worst moments, and of each subject. Raises BadVideo, InvalidRequest, ModelUnavailable and others.
    """
    limits, options = limits or Limits(), options or Options()
    if matte is not None:
        facts = read_matte_facts(matte)
        options = replace(options, engine=facts.engine.name, preview_duration=facts.options.preview_duration)
    folder.mkdir(parents=True, exist_ok=True)
    meter, identifier = QualityMeter(), SubjectIdentifier()
    moments: list[_Moment] = []
    worst: list[_Moment] = []
    faces: dict[int, tuple[float, Plane]] = {}
    with ExitStack() as stack:
        reader = stack.enter_context(open_reader(source, limits))
        clip = reader.clip
        if matte is None:
            engine: dict[str, Any] = {"models_dir": models_dir, "engine_priority": engine_priority, "threads": threads}
            pairs = _engine_pairs(source, clip, options, limits, **engine)
        else:
            pairs = _matte_pairs(source, matte, clip, limits, options.preview_duration)
        for index, frame, alpha in stack.enter_context(closing(pairs)):
            picture, small = small_views(frame, alpha, area=subject_identifier.AREA)
            quality = meter.add(picture, small)
            labels = identifier.add(picture, small)
            moment = _Moment(index, float(frame.pts * clip.time_base), quality, np.zeros((0, 0, 3), np.uint8))
            moments.append(moment)
            _keep_worst(worst, moment, frame, alpha, clip)
            _keep_subjects(faces, identifier, labels, frame, clip)
            if len(moments) % 10 == 1:
                yield _progress(len(moments), clip)
    (folder / STRIP).write_bytes(encode_small(_strip(moments)))
    return {
        "quality": _quality_report(moments, worst, folder, options, models_dir),
        "subjects": _subject_report(identifier.subjects, moments, faces, folder),
        "frames": len(moments),
        "seconds": round(moments[-1].seconds, 3) if moments else 0.0,
        "sampled": matte is None,
    }


def _matte_pairs(
    source: Path, matte: Path, clip: Clip, limits: Limits, seconds: float | None
) -> Generator[tuple[int, Frame, Plane], None, None]:
    with ExitStack() as stack:
        reader = stack.enter_context(open_reader(source, limits))
        alpha_reader = stack.enter_context(open_reader(matte, UNLIMITED))
        check_size(alpha_reader.clip, clip)
        alphas = MatteReader(alpha_reader, Fraction(0), clip.rate)
        for index, frame in enumerate(reader.frames(seconds=seconds)):
            yield index, frame, alphas.alpha_at(frame.pts * clip.time_base)


def _engine_pairs(
    source: Path,
    clip: Clip,
    options: Options,
    limits: Limits,
    *,
    models_dir: Path | None,
    engine_priority: Sequence[str] | None,
    threads: int | None,
) -> Generator[tuple[int, Frame, Plane], None, None]:
    """Frames spread over the clip with an engine's mattes."""
    selected = tiers.choose(options.matting_options, models_dir, threads, engine_priority=engine_priority)
    session = start_session(selected.engine, source, clip, replace(options.matting_options, smoothing="live"), limits)
    with open_reader(source, limits) as reader:
        frames = reader.frames(thumbnail=session.model_input_size, seconds=options.preview_duration)
        for matte in engine_mattes(session, _sampled(frames, clip.frames)):
            yield matte.frame.index, matte.frame, matte.alpha


def _sampled(frames: Iterator[Frame], expected: int) -> Generator[Frame, None, None]:
    """About 48 frames spread over ``expected`` ones; of more, as many again each time that the clip is twice as long.

    The header's count may be missing or wrong, and must not decide how much is analyzed free of charge.
    """
    step, taken = max(1, expected // _SAMPLES), 0
    for index, frame in enumerate(frames):
        if taken >= 2 * _SAMPLES:
            step, taken = 2 * step, _SAMPLES
        if index % step == 0:
            taken += 1
            yield replace(frame, index=index)


def _keep_worst(worst: list[_Moment], moment: _Moment, frame: Frame, alpha: Plane, clip: Clip) -> None:
    """Keep the worst moments, of which no two are within half a second."""
    near = [m for m in worst if abs(m.seconds - moment.seconds) < 0.5]
    if any(m.quality.error >= moment.quality.error for m in near):
        return
    if not near and len(worst) >= WORST:
        least = min(worst, key=lambda m: m.quality.error)
        if least.quality.error >= moment.quality.error:
            return
        worst.remove(least)
    for other in near:
        worst.remove(other)
    moment.thumbnail = _thumbnail(frame, alpha, clip)
    worst.append(moment)


def _keep_subjects(
    faces: dict[int, tuple[float, Plane]], identifier: SubjectIdentifier, labels: Any, frame: Frame, clip: Clip
) -> None:
    """Keep a picture of each subject where it is largest; a new one only if it is a tenth larger."""
    for subject in identifier.subjects:
        share, _ = faces.get(subject.number, (0.0, None))
        if subject.best_share > 1.1 * share and (labels == subject.number).any():
            mask = (labels == subject.number).astype(np.uint8) * 255
            full = np.asarray(cv2.resize(mask, (frame.width, frame.height)), np.uint8)
            x, y, width, height = cv2.boundingRect(mask)
            picture = _thumbnail(frame, full, clip, box=(x, y, width, height), of=labels.shape)
            faces[subject.number] = (subject.best_share, picture)


def _thumbnail(
    frame: Frame, alpha: Plane, clip: Clip, *, box: tuple[int, int, int, int] | None = None, of: Any = None
) -> Plane:
    """The subject over blue, RGB; only the part in ``box`` of a picture of shape ``of``."""
    rgb = _rgb(frame, clip, alpha)
    if box is not None:
        height, width = of
        x, y, w, h = box
        top, bottom = y * rgb.shape[0] // height, -(-(y + h) * rgb.shape[0] // height)
        left, right = x * rgb.shape[1] // width, -(-(x + w) * rgb.shape[1] // width)
        rgb = rgb[top:bottom, left:right]
    scale = _THUMBNAIL / max(rgb.shape[:2])
    size = (max(2, round(rgb.shape[1] * scale)), max(2, round(rgb.shape[0] * scale)))
    return np.asarray(cv2.resize(rgb, size, interpolation=cv2.INTER_AREA), np.uint8)


def _rgb(frame: Frame, clip: Clip, alpha: Plane) -> Plane:
    """Half-size RGB of the frame over blue, dimmed where it is removed."""
    size = (frame.u.shape[1], frame.u.shape[0])
    planes = cv2.merge([np.asarray(cv2.resize(frame.y, size), np.uint8), frame.u.copy(), frame.v.copy()])
    matrix, offset = yuv_to_rgb(clip.color.resolved_matrix(clip.height), full_range=clip.color.full_range)
    rgb = cv2.transform(planes, np.concatenate([matrix, offset[:, None]], axis=1)).astype(np.float32)
    share = np.asarray(cv2.resize(alpha, size), np.float32)[..., None] / 255
    behind = 0.25 * rgb + 0.75 * _BACKGROUND
    return np.asarray(np.clip(rgb * share + behind * (1 - share), 0, 255), np.uint8)


def _progress(done: int, clip: Clip) -> Progress:
    total = max(clip.frames, done)
    return Progress(done, clip.frames, min(0.99, done / total), 0.0, 0.0, None)


def _quality_report(
    moments: list[_Moment], worst: list[_Moment], folder: Path, options: Options, models_dir: Path | None
) -> dict[str, Any]:
    ordered = sorted(worst, key=lambda m: -m.quality.error)
    entries = []
    for number, moment in enumerate(ordered, 1):
        name = f"worst-{number}.png"
        (folder / name).write_bytes(encode_small(moment.thumbnail))
        entries.append(
            {
                "time": round(moment.seconds, 3),
                "frame": moment.index,
                "error": round(moment.quality.error, 5),
                "uncertainty": round(moment.quality.uncertainty, 5),
                "flicker": round(moment.quality.flicker, 5),
                "coverage": round(moment.quality.coverage, 5),
                "thumbnail": name,
            }
        )
    series = _series(moments)
    means = {name: round(float(np.mean(values)), 5) if values else 0.0 for name, values in series.items()}
    del means["time"]
    return {
        "summary": means,
        "strip": series,
        "worst": entries,
        "suggestions": _suggestions(means, entries, options, models_dir),
        "picture": STRIP,
    }


def _series(moments: list[_Moment]) -> dict[str, list[float]]:
    """Values over time, at most 600 of each: means of equal parts of the clip; of the error the largest."""
    count = min(_MAX_POINTS, len(moments))
    parts = [part for part in np.array_split(np.arange(len(moments)), max(1, count)) if len(part)]
    names = ("uncertainty", "flicker", "coverage")
    series = {"time": [round(moments[part[0]].seconds, 3) for part in parts]}
    for name in names:
        values = np.array([getattr(m.quality, name) for m in moments], np.float64)
        series[name] = [round(float(values[part].mean()), 5) for part in parts]
    errors = np.array([m.quality.error for m in moments], np.float64)
    series["error"] = [round(float(errors[part].max()), 5) for part in parts]
    return series


def _suggestions(
    means: dict[str, float], worst: list[dict[str, Any]], options: Options, models_dir: Path | None
) -> list[dict[str, Any]]:
    """What to try, most useful first."""
    suggestions: list[dict[str, Any]] = []
    if worst and worst[0]["error"] > 2 * max(1e-4, means["error"]):
        text = f"Correct the frame at {worst[0]['time']:.2f} s, where the matte is least certain."
        suggestions.append(
            {"action": "correction", "time": worst[0]["time"], "frame": worst[0]["frame"], "message": text}
        )
    if means["coverage"] < 0.002:
        text = "Almost nothing is kept: describe the subject with text_prompt, or choose another model."
        suggestions.append({"action": "text_prompt", "message": text})
    if means["uncertainty"] > _HIGH_UNCERTAINTY or means["coverage"] > 0.9:
        for status in tiers.list_engines(models_dir):
            name = status.info.name
            if status.available and name not in ("chroma", "plate", "prompted", options.engine):
                text = f"Try the engine {name}: {status.info.summary}"
                suggestions.append({"action": "engine", "engine": name, "message": text})
        text = "If the camera does not move, give a picture of the empty scene as plate."
        suggestions.append({"action": "plate", "message": text})
        text = "If the background is a colored screen, use the engine chroma."
        suggestions.append({"action": "chroma", "message": text})
    if means["flicker"] > _HIGH_FLICKER and options.smoothing == "live":
        suggestions.append({"action": "smoothing", "message": "Set smoothing to offline, which flickers less."})
    if not suggestions and worst:
        text = f"The matte is steady; look at {worst[0]['time']:.2f} s, its least certain moment."
        suggestions.append({"action": "look", "time": worst[0]["time"], "frame": worst[0]["frame"], "message": text})
    return suggestions


def _subject_report(
    subjects: list[Subject], moments: list[_Moment], faces: dict[int, tuple[float, Plane]], folder: Path
) -> list[dict[str, Any]]:
    report = []
    for subject in subjects:
        if len(subject.boxes) < min(_MIN_FRAMES, max(1, len(moments) // 4)) or subject.number not in faces:
            continue
        name = f"subject-{subject.number}.png"
        (folder / name).write_bytes(encode_small(faces[subject.number][1]))
        report.append(
            {
                "id": subject_id(subject.number),
                "share": round(subject.share, 5),
                "present": _spans(subject, moments),
                "boxes": _boxes(subject, moments),
                "sure": not subject.unsure,
                "thumbnail": name,
            }
        )
    return report


def _spans(subject: Subject, moments: list[_Moment]) -> list[list[float]]:
    """When the subject is visible, as (start, end) in seconds; gaps under half a second are closed."""
    spans: list[list[float]] = []
    for index in sorted(subject.boxes):
        seconds = round(moments[index].seconds, 3)
        previous = moments[index - 1].seconds if index else 0.0
        if spans and min(seconds, previous) - spans[-1][1] < 0.5:
            spans[-1][1] = seconds
        else:
            spans.append([seconds, seconds])
    return spans


def _boxes(subject: Subject, moments: list[_Moment]) -> list[dict[str, Any]]:
    """The box at up to 100 moments: x, y, width, height as shares of the picture."""
    indexes = sorted(subject.boxes)
    step = max(1, -(-len(indexes) // 100))
    return [
        {"time": round(moments[i].seconds, 3), "box": [round(v, 4) for v in subject.boxes[i]]} for i in indexes[::step]
    ]


def _strip(moments: list[_Moment]) -> Plane:
    """The three measures over time, RGB: rows of bars for uncertainty, flicker and coverage, worst seconds in red."""
    width, height = _STRIP_SIZE
    picture = np.full((height, width, 3), 24, np.uint8)
    colors = {"uncertainty": (240, 120, 60), "flicker": (240, 210, 70), "coverage": (90, 170, 250)}
    row = height // len(colors)
    for number, (name, color) in enumerate(colors.items()):
        values = np.array([getattr(m.quality, name) for m in moments] or [0.0], np.float32)
        columns = np.interp(np.linspace(0, len(values) - 1, width), np.arange(len(values)), values)
        top = max(float(columns.max()), 1e-6)
        for x, value in enumerate(columns):
            bar = round((row - 22) * float(value) / top)
            picture[(number + 1) * row - 2 - bar : (number + 1) * row - 2, x] = color
        text = f"{name}: mean {values.mean():.4f}, highest {values.max():.4f}"
        cv2.putText(
            picture, text, (6, number * row + 14), cv2.FONT_HERSHEY_SIMPLEX, 0.42, (225, 225, 225), 1, cv2.LINE_AA
        )
    return picture
