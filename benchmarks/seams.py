"""Can it be seen where the chunks of a clip meet? Compares the mattes of joined chunks with those of a single pass.

    ./dev bench seams [--clips FILE ...] [--data DIR] [--models-dir DIR] [--engines NAME ...] [--seconds S] [--frames N]
                      [--sheets DIR]

The beginning of each clip is encoded anew at 360 rows, with a key frame for each chunk, because real clips of this
length have too few of them. ``near``: the second after the first frame of each chunk but the first; ``elsewhere``: all
other frames. The difference is the mean of |joined - single pass| over a frame, times 1000, as mean and as that of the
worst frame. ``off``: pixels of the first frame after a seam that differ by more than .1, in percent, worst seam. dtSSD:
of the joined mattes against the single pass, in the mean over the pairs of frames that a seam separates, and over all
others; ``change``: root mean square change of the single pass over the same seams, times 100, as a measure for it.
``--sheets`` writes, for each clip and engine, the four frames around its worst seam: single pass above, joined below.
"""

import argparse
import json
import math
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from fractions import Fraction
from itertools import islice, pairwise
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
from av.video.frame import PictureType
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from alphareel.domain.clip import Chunk, Limits
from alphareel.domain.options import Options, Output
from alphareel.matting import tiers
from alphareel.media.reader import open_reader
from alphareel.pipeline import chunks, run
from benchmarks import metrics
from benchmarks.engine import RESULTS, machine
from benchmarks.quality import DATA

CLIPS = (
    "video/woman_smiling_wall.mp4",
    "video/kids_bed.mp4",
    "video/webcam_meeting_room.webm",
    "greenscreen/axe_dancer_puregreen.mp4",
    "video/cups_hands.mp4",
    "video/hummingbird.mp4",
)
ROWS = 360
OFF = 0.1

Levels = NDArray[np.uint8]


@dataclass(frozen=True)
class Row:
    clip: str
    engine: str
    seams: int
    near_mean: float
    near_worst: float
    elsewhere_mean: float
    elsewhere_worst: float
    off_percent: float
    dtssd_seams: float
    dtssd_elsewhere: float
    change: float


def prepare(source: Path, target: Path, *, seconds: float, frames: int) -> None:
    """The first ``frames`` at 360 rows, with a key frame every ``seconds`` and nowhere else."""
    with av.open(str(source)) as container, av.open(str(target), "w") as output:
        video = container.streams.video[0]
        rate = Fraction(video.average_rate or 25).limit_denominator(1001)
        height = min(ROWS, video.height // 2 * 2)
        width = round(video.width * height / video.height / 2) * 2
        distance = max(1, math.ceil(seconds * rate))
        options = {"crf": "12", "preset": "veryfast", "g": str(frames), "sc_threshold": "0", "forced-idr": "1"}
        stream = output.add_stream("libx264", rate=rate, width=width, height=height, pix_fmt="yuv420p", options=options)
        for index, frame in enumerate(islice(container.decode(video), frames)):
            picture = frame.reformat(width, height, "yuv420p")
            picture.pts, picture.time_base = index, 1 / rate
            picture.pict_type = PictureType.I if index % distance == 0 else PictureType.NONE
            output.mux(stream.encode(picture))
        output.mux(stream.encode())


def make(source: Path, target: Path, engine: str, models_dir: Path | None, chunk: Chunk | None = None) -> Any:
    *_, last = run.run(source, [_output(target, engine)], chunk=chunk, models_dir=models_dir)
    return last.results[0]


def _output(target: Path, engine: str) -> Output:
    return Output(target, Options(engine=engine, output_format="ffv1"))


def joined(
    source: Path, folder: Path, engine: str, models_dir: Path | None, *, seconds: float
) -> tuple[Path, list[int]] | None:
    """The file made of chunks and the first frame of each but the first; None if the clip is not divided."""
    output = _output(folder / "joined.mkv", engine)
    plan = chunks.plan(source, [output], seconds=seconds, models_dir=models_dir)
    if plan is None:
        return None
    parts = []
    for number, chunk in enumerate(plan.chunks):
        result = make(source, folder / f"{number}.mkv", engine, models_dir, chunk)
        parts.append(chunks.ChunkResult(((folder / f"{number}.mkv", result.frames),), chunk, 0))
    for _ in chunks.join(source, [output], parts, plan.engine):
        pass
    counts = [chunk.frames for chunk in plan.chunks[:-1]]
    return output.path, [sum(counts[: n + 1]) for n in range(len(counts))]


def alphas(path: Path) -> Iterator[Levels]:
    with open_reader(path, Limits()) as reader:
        for frame in reader.frames():
            assert frame.alpha is not None
            yield frame.alpha.copy()


def compare(clip: str, engine: str, single: Sequence[Levels], joint: Sequence[Levels], seams: Sequence[int]) -> Row:
    """``seams``: indexes of the frames that follow them. Both sequences have the same length."""
    pairs = [(metrics_of(a), metrics_of(b)) for a, b in zip(joint, single, strict=True)]
    difference = [metrics.mad(a, b) for a, b in pairs]
    near = {index for seam in seams for index in range(seam, seam + 25)}
    off = [100 * float((np.abs(pairs[seam][0] - pairs[seam][1]) > OFF).mean()) for seam in seams]
    steps = {n + 1: (b, a) for n, (a, b) in enumerate(pairwise(pairs))}  # each frame with the one before
    dtssd = {n: metrics.dtssd(now[0], before[0], now[1], before[1]) for n, (now, before) in steps.items()}
    change = [100 * float(np.sqrt(np.square(steps[n][0][1] - steps[n][1][1]).mean())) for n in seams]
    around = [value for index, value in enumerate(difference) if index in near]
    others = [value for index, value in enumerate(difference) if index not in near]
    return Row(
        clip,
        engine,
        len(seams),
        near_mean=_mean(around),
        near_worst=max(around),
        elsewhere_mean=_mean(others),
        elsewhere_worst=max(others),
        off_percent=max(off),
        dtssd_seams=_mean(dtssd[n] for n in seams),
        dtssd_elsewhere=_mean(value for n, value in dtssd.items() if n not in seams),
        change=_mean(change),
    )


def metrics_of(levels: Levels) -> metrics.Alpha:
    return np.asarray(levels / 255, np.float32)


def _mean(values: Iterable[float]) -> float:
    return float(np.mean(list(values)))


def write_sheet(
    path: Path, source: Path, single: Sequence[Levels], joint: Sequence[Levels], seams: Sequence[int]
) -> None:
    """Two frames before and two after the seam with the largest difference, over magenta."""
    seam = max(seams, key=lambda n: float(np.abs(single[n].astype(int) - joint[n]).mean()))
    rows = []
    with av.open(str(source)) as container:
        pictures = [f.to_ndarray(format="rgb24") for f in islice(container.decode(video=0), seam - 2, seam + 2)]
    for alpha in (single, joint):
        cells = []
        for offset, picture in enumerate(pictures, seam - 2):
            share = metrics_of(alpha[offset])[..., None]
            cells.append((picture * share + np.array([255, 0, 255]) * (1 - share)).astype(np.uint8))
        rows.append(np.hstack(cells))
    cv2.imwrite(str(path), cv2.cvtColor(np.vstack(rows), cv2.COLOR_RGB2BGR))


def measure(path: Path, engine: str, arguments: argparse.Namespace, folder: Path) -> Row | None:
    source = folder / "in.mp4"
    prepare(path, source, seconds=arguments.seconds, frames=arguments.frames)
    divided = joined(source, folder, engine, arguments.models_dir, seconds=arguments.seconds)
    if divided is None:
        return None
    make(source, folder / "single.mkv", engine, arguments.models_dir)
    single, joint = list(alphas(folder / "single.mkv")), list(alphas(divided[0]))
    if arguments.sheets:
        arguments.sheets.mkdir(parents=True, exist_ok=True)
        write_sheet(arguments.sheets / f"{path.stem}-{engine}.png", source, single, joint, divided[1])
    return compare(path.stem, engine, single, joint, divided[1])


def table(rows: Sequence[Row]) -> Table:
    columns = ("clip", "engine", "seams", "near", "worst", "elsewhere", "worst", "off %", "dtSSD: seams", "elsewhere")
    output = Table(*columns, "change", title="joined chunks against a single pass: difference of alpha x1000")
    for r in rows:
        figures = (r.near_mean, r.near_worst, r.elsewhere_mean, r.elsewhere_worst, r.off_percent)
        times = (r.dtssd_seams, r.dtssd_elsewhere, r.change)
        output.add_row(r.clip, r.engine, str(r.seams), *(f"{value:.2f}" for value in (*figures, *times)))
    return output


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=DATA, help="folder with the clips")
    parser.add_argument("--clips", type=Path, nargs="*", help="files instead of those in --data")
    parser.add_argument("--models-dir", type=Path, help="folder with installed weights")
    parser.add_argument("--engines", nargs="*", help="default: all that are available and can be divided")
    parser.add_argument("--seconds", type=float, default=2.0, help="length of a chunk")
    parser.add_argument("--frames", type=int, default=180)
    parser.add_argument("--sheets", type=Path, help="folder for pictures of the worst seams")
    arguments = parser.parse_args()
    ready = arguments.engines or [
        status.info.name
        for status in tiers.list_engines(arguments.models_dir)
        if status.available and status.info.warmup_frames is not None
    ]
    rows = []
    for path in arguments.clips or [arguments.data / name for name in CLIPS if (arguments.data / name).exists()]:
        for engine in ready:
            with tempfile.TemporaryDirectory() as folder:
                row = measure(path, engine, arguments, Path(folder))
            if row is None:
                print(f"{path.stem} is not divided")
                continue
            rows.append(row)
            print(json.dumps(asdict(row)), flush=True)
    Console(width=150).print(table(rows))
    now = datetime.now(UTC)
    record = {
        "at": now.isoformat(timespec="seconds"),
        "machine": machine(),
        "seconds": arguments.seconds,
        "frames": arguments.frames,
        "rows": [{k: round(v, 3) if isinstance(v, float) else v for k, v in asdict(row).items()} for row in rows],
    }
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"seams-{now:%Y%m%d-%H%M%S}.json"
    path.write_text(json.dumps(record, indent=2) + "\n")
    print(f"saved to {path.name}")


if __name__ == "__main__":
    main()
