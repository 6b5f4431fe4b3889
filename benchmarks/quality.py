"""Quality of every engine that can run here on every ground truth that is there: one table, one file of figures.

    ./dev bench quality [--data DIR] [--models-dir DIR] [--frames N] [--engine NAME ...] [--sheets DIR] [--second-look]

Engines are driven through their contract, as the pipeline drives them: full-size frames with a thumbnail in, full-size
alpha out. Beside ours stands a peer, MediaPipe's selfie segmentation, when its file lies in the models folder, once as
it is and once with our stabilizer. The keyer is asked about screens only, the engines for people about people only.
Figures are means over frames, then over clips. Masks made by hand know no soft edge, so MAD and Grad against them
judge shapes, not hair; dtSSD and flicker need frames in a row. ms: CPU time of one thread for one frame, network,
refinement and clean edges together, the first frame of a clip left out.
"""

import argparse
import json
import math
import time
from collections.abc import Iterable, Iterator, Sequence
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
from alphareel.domain.options import Options
from alphareel.imaging.color import yuv_to_rgb
from alphareel.imaging.frame import Frame, Matte, Plane
from alphareel.matting import tiers
from alphareel.matting.engine import Engine, MattingSession, ModelInfo, RequiresScene
from benchmarks import ground_truth, metrics, peers_selfie
from benchmarks.engine import RESULTS, machine
from benchmarks.ground_truth import Truth
from benchmarks.second_look import SecondLook

CLIPS = Path(__file__).resolve().parents[2] / "shared" / "data" / "clips"
FLOW_WIDTH = 320  # flicker is judged at this width: flow at full size would cost more than all the mattes
SHEET_HEIGHT = 360
BEHIND = (40, 90, 200)

Picture = NDArray[np.uint8]


@dataclass(frozen=True)
class Contender:
    """An engine in the comparison. ``megabytes``: its weights, 0 without."""

    name: str
    engine: Engine
    screens: bool
    megabytes: float


@dataclass(frozen=True)
class Score:
    """Figures of one engine on one clip, or their means; NaN where a figure does not apply."""

    mad: float
    mse: float
    grad: float
    dtssd: float
    iou: float
    boundary_f: float
    flicker: float
    ms: float


@dataclass(frozen=True)
class Row:
    group: str
    engine: str
    clips: int
    score: Score


def contenders(models_dir: Path | None, names: Sequence[str]) -> tuple[list[Contender], list[str]]:
    """The engines that can run here, and one sentence for each that cannot."""
    made, reasons = [], []
    for offer in tiers.list_engines(models_dir):
        name = offer.spec.name
        if names and name not in names:
            continue
        try:
            engine = tiers.choose(Options(engine=name), models_dir, threads=1).engine
        except AlphareelError as error:
            reasons.append(f"{name}: skipped, {error.message}")
            continue
        made.append(Contender(name, engine, _keys_screens(offer.spec), _megabytes(engine)))
    if not names or peers_selfie.NAME in names:
        peer = peers_selfie.load(models_dir, threads=1)
        if peer is None:
            reasons.append(f"{peers_selfie.NAME}: skipped, no {peers_selfie.FILE} in the models folder.")
        else:
            megabytes = _megabytes(peer)
            made.append(Contender(peers_selfie.NAME, peer, screens=False, megabytes=megabytes))
            steadied = replace(peer, steady=True)
            made.append(Contender(f"{peers_selfie.NAME} steadied", steadied, screens=False, megabytes=megabytes))
    return made, reasons


def twice(contender: Contender) -> Contender:
    """The same engine with a second look at a crop around the subject."""
    return replace(contender, name=f"{contender.name} twice", engine=SecondLook(contender.engine))


def _keys_screens(spec: ModelInfo) -> bool:
    return spec.subject not in ("people", "anything", "what a text names")


def _megabytes(engine: object) -> float:
    path = getattr(engine, "path", None) or getattr(getattr(engine, "session", None), "path", None)
    return path.stat().st_size / 1e6 if isinstance(path, Path) else 0.0


@dataclass(frozen=True)
class _Scene:
    """What a truth shows before its first frame: its own frames, and no picture of the empty scene."""

    truth: Truth

    def plate(self, thumbnail: tuple[int, int]) -> None:  # noqa: ARG002 - the contract of a scenery
        return None

    def thumbnails(self, thumbnail: tuple[int, int]) -> Iterator[Plane]:
        for frame in self.truth.frames(thumbnail):
            assert frame.thumbnail is not None
            yield frame.thumbnail


def begin(contender: Contender, truth: Truth) -> MattingSession:
    """Memory of the engine that is ready for the first frame. Raises AlphareelError when the clip is not for it."""
    memory = contender.engine.start(truth.clip, Options())
    if isinstance(memory, RequiresScene):
        memory.prepare(_Scene(truth))
    return memory


def judge(contender: Contender, truth: Truth, *, frames: int) -> Score:
    """Every figure of one engine on one clip. Raises AlphareelError when the engine refuses the clip."""
    memory = begin(contender, truth)
    sums: dict[str, list[float]] = {f.name: [] for f in fields(Score)}
    before: tuple[metrics.Alpha, metrics.Alpha, Picture, metrics.Alpha] | None = None
    shown = ground_truth.SETTLE if truth.still else frames
    pairs = zip(islice(truth.frames(memory.thumbnail), shown), truth.alphas(), strict=False)
    for index, (frame, true) in enumerate(pairs, 1):
        began = time.process_time()
        matte = memory.step([frame])[0]
        spent = 1e3 * (time.process_time() - began)
        if index > 1:
            sums["ms"].append(spent)  # the first frame of a shot may cost more
        if truth.still and index < shown:
            continue
        alpha = np.asarray(matte.alpha / np.float32(255), np.float32)
        for name in ("mad", "mse", "grad", "iou", "boundary_f"):
            sums[name].append(getattr(metrics, name)(alpha, true))
        picture, small = _for_flow(frame, truth.clip, alpha)
        if before is not None:
            sums["dtssd"].append(metrics.dtssd(alpha, before[0], true, before[1]))
            sums["flicker"].append(metrics.flicker(small, before[3], metrics.flow_between(picture, before[2])))
        before = (alpha, true, picture, small)
    return Score(**{name: _mean(values) for name, values in sums.items()})


def _for_flow(frame: Frame, clip: Clip, alpha: metrics.Alpha) -> tuple[Picture, metrics.Alpha]:
    size = (FLOW_WIDTH, max(2, round(FLOW_WIDTH * frame.height / frame.width)))
    small = cv2.resize(alpha, size, interpolation=cv2.INTER_AREA)
    return _shrunk(_rgb(frame, clip), size), np.asarray(small, np.float32)


def _mean(values: Iterable[float]) -> float:
    known = [v for v in values if not math.isnan(v)]
    return fmean(known) if known else math.nan


def compare(
    everybody: Sequence[Contender], found: Sequence[Truth], *, frames: int, refused: list[str] | None = None
) -> Iterator[Row]:
    """A row for each group of clips and each engine that claims their subject; ``refused`` gets a sentence for gaps.

    An engine that refuses one clip of a group (a camera that moves, no empty scene) has no row for it.
    """
    for group in dict.fromkeys(t.group for t in found):
        clips = [t for t in found if t.group == group]
        for contender in everybody:
            if contender.screens != (clips[0].subject == "screen"):
                continue
            try:
                scores = [judge(contender, truth, frames=frames) for truth in clips]
            except AlphareelError as error:
                if refused is None:
                    raise
                refused.append(f"{contender.name}: not judged on {group}, {error.message}")
                continue
            means = {f.name: _mean(getattr(s, f.name) for s in scores) for f in fields(Score)}
            yield Row(group, contender.name, len(clips), Score(**means))


def table(rows: Sequence[Row], everybody: Sequence[Contender]) -> Table:
    heads = ("truth", "engine", "MAD", "MSE", "Grad", "dtSSD", "IoU", "boundary F", "flicker", "ms", "MB")
    made = Table(
        title="MAD, MSE, flicker x 1000, dtSSD x 100, Grad / 1000; lower is better, but for IoU and boundary F"
    )
    for head in heads:
        made.add_column(head, justify="left" if head in ("truth", "engine") else "right")
    megabytes = {c.name: c.megabytes for c in everybody}
    for row, after in zip(rows, [*rows[1:], None], strict=True):
        s = row.score
        figures = [(s.mad, 1), (s.mse, 1), (s.grad, 2), (s.dtssd, 2), (s.iou, 3), (s.boundary_f, 3), (s.flicker, 1)]
        cells = [_cell(value, digits) for value, digits in (*figures, (s.ms, 0), (megabytes[row.engine], 1))]
        made.add_row(
            f"{row.group} ({row.clips})", row.engine, *cells, end_section=after is None or after.group != row.group
        )
    return made


def _cell(value: float, digits: int) -> str:
    return "-" if math.isnan(value) else f"{value:.{digits}f}"


def write_sheets(
    folder: Path, everybody: Sequence[Contender], found: Sequence[Truth], rows: Sequence[Row], *, frames: int
) -> int:
    """One picture for each clip: source, truth, the cut-out over blue of each engine with a row. Returns how many."""
    judged = {(row.group, row.engine) for row in rows}
    folder.mkdir(parents=True, exist_ok=True)
    written = 0
    for truth in found:
        panels: list[Picture] = []
        for contender in everybody:
            if (truth.group, contender.name) in judged:
                frame, true, matte = _last(contender, truth, frames)
                if not panels:
                    gray = (true * 255 + 0.5).astype(np.uint8)
                    panels = [_rgb(frame, truth.clip), np.dstack([gray] * 3)]
                panels.append(_over_blue(matte, truth.clip))
        if panels:
            sheet = np.hstack([_shrunk(p, (SHEET_HEIGHT * p.shape[1] // p.shape[0], SHEET_HEIGHT)) for p in panels])
            name = f"{truth.group}-{truth.name}.png".replace(" ", "_").replace(",", "")
            cv2.imwrite(str(folder / name), cv2.cvtColor(sheet, cv2.COLOR_RGB2BGR))
            written += 1
    return written


def _last(contender: Contender, truth: Truth, frames: int) -> tuple[Frame, metrics.Alpha, Matte]:
    """The last frame looked at, when the engine has seen all before it."""
    memory = begin(contender, truth)
    pairs = zip(islice(truth.frames(memory.thumbnail), frames), truth.alphas(), strict=False)
    for frame, true in pairs:  # noqa: B007 - the last one is what is wanted
        matte = memory.step([frame])[0]
    return frame, true, matte


def _over_blue(matte: Matte, clip: Clip) -> Picture:
    alpha = matte.alpha[..., None].astype(np.float32) / 255
    return np.asarray(_rgb(matte.frame, clip) * alpha + np.array(BEHIND) * (1 - alpha) + 0.5, np.uint8)


def _rgb(frame: Frame, clip: Clip) -> Picture:
    size = (frame.width, frame.height)
    planes = np.dstack([frame.y, cv2.resize(frame.u, size), cv2.resize(frame.v, size)]).astype(np.float32)
    scale, shift = yuv_to_rgb(clip.color.resolved_matrix(clip.height), full_range=clip.color.full_range)
    rgb = cv2.transform(planes, np.concatenate([scale, shift[:, None]], axis=1))
    return np.asarray(np.clip(rgb + 0.5, 0, 255), np.uint8)


def _shrunk(picture: Picture, size: tuple[int, int]) -> Picture:
    return np.asarray(cv2.resize(picture, size, interpolation=cv2.INTER_AREA), np.uint8)


def keep(rows: Sequence[Row], everybody: Sequence[Contender], skipped: Sequence[str], *, frames: int) -> Path:
    """Write the figures to results/; returns the file."""
    RESULTS.mkdir(exist_ok=True)
    now = datetime.now(UTC)
    engines = {c.name: {**asdict(c.engine.facts), "megabytes": round(c.megabytes, 3)} for c in everybody}
    record = {
        "at": now.isoformat(timespec="seconds"),
        "machine": machine(),
        "frames": frames,
        "engines": engines,
        "skipped": list(skipped),
        "rows": [{"truth": r.group, "engine": r.engine, "clips": r.clips, **_plain(r.score)} for r in rows],
    }
    path = RESULTS / f"quality-{now:%Y%m%d-%H%M%S}.json"
    path.write_text(json.dumps(record, indent=2, allow_nan=False) + "\n")
    return path


def _plain(score: Score) -> dict[str, float | None]:
    return {name: None if math.isnan(value) else round(value, 4) for name, value in asdict(score).items()}


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=CLIPS, help=f"folder with ground truth (else {CLIPS})")
    parser.add_argument("--models-dir", type=Path, help="folder with weights of your own (rvm) and of peers")
    parser.add_argument("--frames", type=int, default=60, help="frames of each clip, from its start")
    parser.add_argument("--engine", action="append", default=[], help="only this one; may be given again")
    parser.add_argument("--sheets", type=Path, help="folder for contact sheets")
    parser.add_argument("--second-look", action="store_true", help="also judge each engine for people looking twice")
    given = parser.parse_args(arguments)
    console = Console(width=130, markup=False)
    with ExitStack() as stack:
        found, absent = ground_truth.find(given.data, stack)
        everybody, unable = contenders(given.models_dir, given.engine)
        if given.second_look:
            everybody += [twice(c) for c in everybody if not c.screens]
        skipped = [*absent, *unable]
        rows = list(compare(everybody, found, frames=given.frames, refused=skipped))
        console.print(table(rows, everybody))
        for reason in skipped:
            console.print(reason)
        console.print(f"kept in {keep(rows, everybody, skipped, frames=given.frames)}")
        if given.sheets is not None:
            count = write_sheets(given.sheets, everybody, found, rows, frames=given.frames)
            console.print(f"{count} sheets in {given.sheets}")


if __name__ == "__main__":
    main()
