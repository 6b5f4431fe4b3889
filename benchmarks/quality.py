"""Quality of every available engine on all available ground truth, as a table and a JSON file.

    ./dev bench quality [--data DIR] [--objects DIR] [--empty DIR] [--skin DIR] [--models-dir DIR] [--frames N]
                        [--engine NAME ...] [--group NAME ...] [--clips] [--sheets DIR] [--second-look]
                        [--smoothing live|offline]

Engines run as in the pipeline: full-size frames with a model input in, full-size alpha out. Peers (MediaPipe's selfie
segmentation, U2-NetP, U2-Net) are included if their files are in the models folder (see ``peers_networks.py``), selfie
also with temporal smoothing. Keyers are scored on screens only; engines for people also on groups with other subjects,
where they show what is missing. Figures are means over frames, then over clips; ``--clips`` prints each clip, and the
file of figures has them always. Masks made by hand have no soft edges, so MAD and Grad against them measure shapes,
not hair. dtSSD and flicker need consecutive frames. taken: background pixels that are kept, in percent of the frame.
ms: CPU time of one thread per frame for network, refinement and color decontamination, without the first frame.

People drawn in several skin tones (see ``skin_tones.py``) have a table of their own. Between the rows of an engine only
the skin differs, and the last wall, which has its color. ``--group "skin tone"`` selects all tones.
"""

import argparse
import json
import math
import re
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, fields, replace
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from statistics import fmean

import cv2
import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from alphareel.domain.clip import Clip
from alphareel.domain.errors import AlphareelError
from alphareel.domain.options import SMOOTHINGS, Options, Smoothing
from alphareel.imaging.color import yuv_to_rgb
from alphareel.imaging.frame import Frame, Matte, Plane
from alphareel.matting import tiers
from alphareel.matting.engine import Engine, MattingSession, ModelInfo, RequiresScene
from alphareel.matting.network import NetworkSession
from benchmarks import ground_truth, metrics, peers_networks, skin_tones
from benchmarks.engine import RESULTS, machine
from benchmarks.ground_truth import GroundTruth
from benchmarks.second_look import SecondLook

SKIN = Path(__file__).resolve().parents[1] / "training" / "runs" / "skin"
DATA = Path(__file__).resolve().parents[2] / "shared" / "data"
CLIPS = DATA / "clips"
FLOW_WIDTH = 320  # width at which flicker is measured: full-size flow would cost more than all mattes
SHEET_HEIGHT = 360
SHEET_BACKGROUND = (40, 90, 200)

Picture = NDArray[np.uint8]


@dataclass(frozen=True)
class Candidate:
    """An engine in the comparison. ``screens``: it is a keyer. ``megabytes``: size of its weights."""

    name: str
    engine: Engine
    screens: bool
    megabytes: float
    smoothing: Smoothing = "live"


@dataclass(frozen=True)
class Score:
    """Figures of one engine on one clip, or their means. NaN if a figure does not apply."""

    mad: float
    mse: float
    grad: float
    dtssd: float
    iou: float
    boundary_f: float
    flicker: float
    taken: float
    ms: float


@dataclass(frozen=True)
class Row:
    """``each``: the figures of every clip of the group by its name, of which ``score`` is the mean."""

    group: str
    engine: str
    clips: int
    score: Score
    each: Mapping[str, Score]


@dataclass(frozen=True)
class SkinSpread:
    """The figure of the worst skin tone minus that of the best; another tone may be the worst by another figure."""

    mad: float
    iou: float


def candidates(models_dir: Path | None, names: Sequence[str]) -> tuple[list[Candidate], list[str]]:
    """The engines that can run here, and one sentence for each that cannot."""
    available, reasons = [], []
    for status in tiers.list_engines(models_dir):
        name = status.info.name
        if names and name not in names:
            continue
        try:
            engine = tiers.choose(Options(engine=name), models_dir, threads=1).engine
        except AlphareelError as error:
            reasons.append(f"{name}: skipped, {error.message}")
            continue
        available.append(Candidate(name, engine, _is_keyer(status.info), _megabytes(engine)))
    peers = [peer for peer in peers_networks.PEERS if not names or peer.name in names]
    for engine_or_reason in peers_networks.load(models_dir, peers, threads=1):
        if isinstance(engine_or_reason, str):
            reasons.append(engine_or_reason)
            continue
        name, megabytes = engine_or_reason.peer.name, _megabytes(engine_or_reason)
        available.append(Candidate(name, engine_or_reason, screens=False, megabytes=megabytes))
        if name == "selfie":
            smoothed = replace(engine_or_reason, smooth=True)
            available.append(Candidate(f"{name} steadied", smoothed, screens=False, megabytes=megabytes))
    return available, reasons


def with_second_look(candidate: Candidate) -> Candidate:
    """The same engine with a second pass over a crop around the subject."""
    return replace(candidate, name=f"{candidate.name} twice", engine=SecondLook(candidate.engine))


def _is_keyer(info: ModelInfo) -> bool:
    return info.subject not in ("people", "anything", "what a text names")


def _megabytes(engine: object) -> float:
    path = getattr(engine, "path", None) or getattr(getattr(engine, "session", None), "path", None)
    return path.stat().st_size / 1e6 if isinstance(path, Path) else 0.0


@dataclass(frozen=True)
class _Scene:
    """The ``SceneSource`` of a ground truth: its own frames, and no image of the empty scene."""

    truth: GroundTruth

    def plate(self, size: tuple[int, int]) -> None:  # noqa: ARG002
        return None

    def model_inputs(self, size: tuple[int, int]) -> Iterator[Plane]:
        for frame in self.truth.frames(size):
            assert frame.thumbnail is not None
            yield frame.thumbnail


def start_session(candidate: Candidate, truth: GroundTruth) -> MattingSession:
    """Start a session that is ready for the first frame. Raises AlphareelError when the engine rejects the clip."""
    session = candidate.engine.start(truth.clip, Options(smoothing=candidate.smoothing))
    if isinstance(session, RequiresScene):
        session.prepare(_Scene(truth))
    return session


def score(candidate: Candidate, truth: GroundTruth, *, frames: int) -> Score:
    """All figures of one engine on one clip. Raises AlphareelError when the engine rejects the clip."""
    session = start_session(candidate, truth)
    sums: dict[str, list[float]] = {f.name: [] for f in fields(Score)}
    previous: tuple[metrics.Alpha, metrics.Alpha, Picture, metrics.Alpha] | None = None
    frame_count = ground_truth.WARMUP_FRAMES if truth.still else frames
    mattes = timed_mattes(session, islice(truth.frames(session.model_input_size), frame_count))
    for index, ((matte, elapsed_ms), true) in enumerate(zip(mattes, truth.alphas(), strict=False), 1):
        frame = matte.frame
        if index > 1:
            sums["ms"].append(elapsed_ms)  # the first frame of a shot may cost more
        if truth.still and index < frame_count:
            continue
        alpha = np.asarray(matte.alpha / np.float32(255), np.float32)
        for name in ("mad", "mse", "grad", "iou", "boundary_f", "taken"):
            sums[name].append(getattr(metrics, name)(alpha, true))
        picture, small = _for_flow(frame, truth.clip, alpha)
        if previous is not None:
            sums["dtssd"].append(metrics.dtssd(alpha, previous[0], true, previous[1]))
            sums["flicker"].append(metrics.flicker(small, previous[3], metrics.flow_between(picture, previous[2])))
        previous = (alpha, true, picture, small)
    return Score(**{name: _mean(values) for name, values in sums.items()})


def timed_mattes(session: MattingSession, frames: Iterable[Frame]) -> Iterator[tuple[Matte, float]]:
    """The matte of each frame, and the CPU time for it in ms. A session that looks ahead has a mean time."""
    if isinstance(session, NetworkSession) and session.look_ahead:
        all_frames = list(frames)
        began = time.process_time()
        mattes = [finish() for finish in session.infer_all(all_frames)]
        mean = 1e3 * (time.process_time() - began) / len(all_frames)
        yield from ((matte, mean) for matte in mattes)
        return
    for frame in frames:
        began = time.process_time()
        matte = session.step([frame])[0]
        yield matte, 1e3 * (time.process_time() - began)


def _for_flow(frame: Frame, clip: Clip, alpha: metrics.Alpha) -> tuple[Picture, metrics.Alpha]:
    size = (FLOW_WIDTH, max(2, round(FLOW_WIDTH * frame.height / frame.width)))
    small = cv2.resize(alpha, size, interpolation=cv2.INTER_AREA)
    return _resize(_rgb(frame, clip), size), np.asarray(small, np.float32)


def _mean(values: Iterable[float]) -> float:
    known = [v for v in values if not math.isnan(v)]
    return fmean(known) if known else math.nan


def compare(
    all_candidates: Sequence[Candidate],
    ground_truths: Sequence[GroundTruth],
    *,
    frames: int,
    refused: list[str] | None = None,
) -> Iterator[Row]:
    """A row for each group of clips and each engine for their subject.

    An engine that rejects one clip of a group (a moving camera, no empty scene) has no row for the group. The reason is
    appended to ``refused``, or raised if that is None.
    """
    for group in dict.fromkeys(t.group for t in ground_truths):
        clips = [t for t in ground_truths if t.group == group]
        for candidate in all_candidates:
            if candidate.screens != (clips[0].subject == "screen"):
                continue
            try:
                scores = {truth.name: score(candidate, truth, frames=frames) for truth in clips}
            except AlphareelError as error:
                if refused is None:
                    raise
                refused.append(f"{candidate.name}: not scored on {group}, {error.message}")
                continue
            means = {f.name: _mean(getattr(s, f.name) for s in scores.values()) for f in fields(Score)}
            yield Row(group, candidate.name, len(clips), Score(**means), scores)


def table(rows: Sequence[Row], all_candidates: Sequence[Candidate], *, clips: bool = False) -> Table:
    heads = ("truth", "engine", "MAD", "MSE", "Grad", "dtSSD", "IoU", "boundary F", "flicker", "taken %", "ms", "MB")
    output = Table(
        title="MAD, MSE, flicker x 1000, dtSSD x 100, Grad / 1000; lower is better, but for IoU and boundary F"
    )
    for head in heads:
        output.add_column(head, justify="left" if head in ("truth", "engine") else "right")
    megabytes = {c.name: c.megabytes for c in all_candidates}
    for row, after in zip(rows, [*rows[1:], None], strict=True):
        lines = [(f"{row.group} ({row.clips})", row.score), *((f"  {n}", s) for n, s in row.each.items() if clips)]
        for name, score_ in lines:
            output.add_row(name, row.engine, *_cells(score_), _cell(megabytes[row.engine], 1))
        if after is None or after.group != row.group:
            output.add_section()
    return output


def _cells(s: Score) -> list[str]:
    figures = [(s.mad, 1), (s.mse, 1), (s.grad, 2), (s.dtssd, 2), (s.iou, 3), (s.boundary_f, 3), (s.flicker, 1)]
    return [_cell(value, digits) for value, digits in (*figures, (s.taken, 2), (s.ms, 0))]


def _cell(value: float, digits: int) -> str:
    return "-" if math.isnan(value) else f"{value:.{digits}f}"


def skin_table(rows: Sequence[Row]) -> Table | None:
    """A row for each engine and skin tone, and the worst tone against the best; None without drawn people."""
    spreads = skin_spreads(rows)
    if not spreads:
        return None
    output = Table(title="drawn people in several skin tones: MAD x 1000, IoU, and IoU before each wall")
    for head in ("tone", "engine", "MAD", "IoU", *skin_tones.WALLS):
        output.add_column(head, justify="left" if head in ("tone", "engine") else "right")
    for engine, spread in spreads.items():
        for row in (row for row in rows if row.engine == engine and _is_skin_tone(row)):
            walls = [
                _mean(s.iou for name, s in row.each.items() if name.startswith(f"{w}: ")) for w in skin_tones.WALLS
            ]
            output.add_row(row.group.removeprefix(ground_truth.SKIN_TONE), engine, _cell(row.score.mad, 1),
                           *(_cell(iou, 3) for iou in (row.score.iou, *walls)))  # fmt: skip
        output.add_row("worst - best", engine, f"{spread.mad:+.1f}", f"{spread.iou:+.3f}")
        output.add_section()
    return output


def skin_spreads(rows: Sequence[Row]) -> dict[str, SkinSpread]:
    """For each engine with rows of skin tones, by its name, how far these are apart."""
    spreads = {}
    for engine in dict.fromkeys(row.engine for row in rows if _is_skin_tone(row)):
        scores = [row.score for row in rows if row.engine == engine and _is_skin_tone(row)]
        mads, ious = [score.mad for score in scores], [score.iou for score in scores]
        spreads[engine] = SkinSpread(mad=max(mads) - min(mads), iou=min(ious) - max(ious))
    return spreads


def _is_skin_tone(row: Row) -> bool:
    return row.group.startswith(ground_truth.SKIN_TONE)


def write_sheets(
    folder: Path,
    all_candidates: Sequence[Candidate],
    ground_truths: Sequence[GroundTruth],
    rows: Sequence[Row],
    *,
    frames: int,
) -> int:
    """Write an image for each clip: source, true alpha, and each engine's result on blue. Returns how many."""
    scored = {(row.group, row.engine) for row in rows}
    folder.mkdir(parents=True, exist_ok=True)
    written = 0
    for truth in ground_truths:
        panels: list[Picture] = []
        for candidate in all_candidates:
            if (truth.group, candidate.name) in scored:
                frame, true, matte = _last(candidate, truth, frames)
                if not panels:
                    gray = (true * 255 + 0.5).astype(np.uint8)
                    panels = [_rgb(frame, truth.clip), np.dstack([gray] * 3)]
                panels.append(_over_blue(matte, truth.clip))
        if panels:
            sheet = np.hstack([_resize(p, (SHEET_HEIGHT * p.shape[1] // p.shape[0], SHEET_HEIGHT)) for p in panels])
            name = f"{truth.group}-{truth.name}.png".translate(str.maketrans(" ", "_", ",:"))
            cv2.imwrite(str(folder / name), cv2.cvtColor(sheet, cv2.COLOR_RGB2BGR))
            written += 1
    return written


def _last(candidate: Candidate, truth: GroundTruth, frames: int) -> tuple[Frame, metrics.Alpha, Matte]:
    """The last frame, its true alpha and its matte, after all frames before it."""
    session = start_session(candidate, truth)
    pairs = zip(islice(truth.frames(session.model_input_size), frames), truth.alphas(), strict=False)
    for frame, true in pairs:  # noqa: B007 - only the last one is used
        matte = session.step([frame])[0]
    return frame, true, matte


def _over_blue(matte: Matte, clip: Clip) -> Picture:
    alpha = matte.alpha[..., None].astype(np.float32) / 255
    return np.asarray(_rgb(matte.frame, clip) * alpha + np.array(SHEET_BACKGROUND) * (1 - alpha) + 0.5, np.uint8)


def _rgb(frame: Frame, clip: Clip) -> Picture:
    size = (frame.width, frame.height)
    planes = np.dstack([frame.y, cv2.resize(frame.u, size), cv2.resize(frame.v, size)]).astype(np.float32)
    scale, shift = yuv_to_rgb(clip.color.resolved_matrix(clip.height), full_range=clip.color.full_range)
    rgb = cv2.transform(planes, np.concatenate([scale, shift[:, None]], axis=1))
    return np.asarray(np.clip(rgb + 0.5, 0, 255), np.uint8)


def _resize(picture: Picture, size: tuple[int, int]) -> Picture:
    return np.asarray(cv2.resize(picture, size, interpolation=cv2.INTER_AREA), np.uint8)


def save(rows: Sequence[Row], all_candidates: Sequence[Candidate], skipped: Sequence[str], *, frames: int) -> Path:
    """Write the figures to results/. Returns the file."""
    RESULTS.mkdir(exist_ok=True)
    now = datetime.now(UTC)
    engines = {c.name: {**asdict(c.engine.facts), "megabytes": round(c.megabytes, 3)} for c in all_candidates}
    record = {
        "at": now.isoformat(timespec="seconds"),
        "machine": machine(),
        "frames": frames,
        "smoothing": sorted({c.smoothing for c in all_candidates}),
        "engines": engines,
        "skipped": [_ABSOLUTE_FOLDER.sub("", reason) for reason in skipped],
        "rows": [
            {"truth": r.group, "engine": r.engine, "clips": r.clips, **_rounded(r.score)}
            | {"each": {name: _rounded(each) for name, each in r.each.items()}}
            for r in rows
        ],
        "skin_spread": {name: _rounded(spread) for name, spread in skin_spreads(rows).items()},
    }
    path = RESULTS / f"quality-{now:%Y%m%d-%H%M%S}.json"
    path.write_text(json.dumps(record, indent=2, allow_nan=False) + "\n")
    return path


_ABSOLUTE_FOLDER = re.compile(r"(?<![\w./~-])/(?:[^/\s:'\"]+/)+")  # of a file whose name stays


def _rounded(figures: Score | SkinSpread) -> dict[str, float | None]:
    return {name: None if math.isnan(value) else round(value, 4) for name, value in asdict(figures).items()}


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=CLIPS, help=f"folder with ground truth (else {CLIPS})")
    parser.add_argument("--objects", type=Path, default=DATA / "objects", help="folder of masked sequences of things")
    parser.add_argument("--empty", type=Path, default=CLIPS / "empty", help="folder of pictures without a subject")
    parser.add_argument("--skin", type=Path, default=SKIN, help="folder of people drawn in several skin tones")
    parser.add_argument("--group", action="append", default=[], help="only this group of clips; repeatable")
    parser.add_argument("--clips", action="store_true", help="also print the figures of each clip")
    parser.add_argument("--models-dir", type=Path, help="folder with installed weights and those of peers")
    parser.add_argument("--frames", type=int, default=60, help="frames of each clip, from its start")
    parser.add_argument("--engine", action="append", default=[], help="only this engine; repeatable")
    parser.add_argument("--sheets", type=Path, help="folder for contact sheets")
    parser.add_argument(
        "--second-look", action="store_true", help="also score each engine with a second pass over a crop"
    )
    parser.add_argument("--smoothing", choices=SMOOTHINGS, default="live", help="how mattes are smoothed over time")
    parsed = parser.parse_args(arguments)
    console = Console(width=130, markup=False)
    with ExitStack() as stack:
        ground_truths, absent = ground_truth.find(
            parsed.data, stack, objects=parsed.objects, empty=parsed.empty, skin=parsed.skin
        )
        ground_truths = [t for t in ground_truths if not parsed.group or _is_in(t.group, parsed.group)]
        all_candidates, unable = candidates(parsed.models_dir, parsed.engine)
        if parsed.second_look:
            all_candidates += [with_second_look(c) for c in all_candidates if not c.screens]
        all_candidates = [replace(candidate, smoothing=parsed.smoothing) for candidate in all_candidates]
        skipped = [*absent, *unable]
        rows = list(compare(all_candidates, ground_truths, frames=parsed.frames, refused=skipped))
        if others := [row for row in rows if not _is_skin_tone(row)]:
            console.print(table(others, all_candidates, clips=parsed.clips))
        if (tones := skin_table(rows)) is not None:
            console.print(tones)
        for reason in skipped:
            console.print(reason)
        console.print(f"saved to {save(rows, all_candidates, skipped, frames=parsed.frames)}")
        if parsed.sheets is not None:
            count = write_sheets(parsed.sheets, all_candidates, ground_truths, rows, frames=parsed.frames)
            console.print(f"{count} sheets in {parsed.sheets}")


def _is_in(group: str, groups: Sequence[str]) -> bool:
    return group in groups or (group.startswith(ground_truth.SKIN_TONE) and ground_truth.SKIN_TONE.strip() in groups)


if __name__ == "__main__":
    main()
