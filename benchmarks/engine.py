"""Speed and memory of the pipeline and of each stage, compared with upper bounds.

    ./dev bench engine [--models-dir DIR] [--engines NAME ...] [--clip FILE] [--frames N] [--rounds N] [--device NAME]

Each figure is measured in a process of its own. "alone" runs one stage on precomputed input. "whole" runs the pipeline
from its first frame to the verified file; the start-up before it is a separate column. The bounds are the frames per
second of the slowest stage alone, and those of all stages' CPU time spread over all cores. CPU ms are user + system
time of all threads. "others" is the number of cores used by other processes meanwhile: elapsed times are valid only if
it is near zero. Clips are generated in each size, unless one is given.

With --device cuda (or coreml, directml) the network runs there, and a line for each engine says how far its mattes are
from those of the CPU: a check for those who have such a device.
"""

import argparse
import json
import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from itertools import cycle, islice, product
from pathlib import Path
from typing import Any, get_args

import cv2
import numpy as np
from rich.console import Console
from rich.table import Table

from alphareel.domain.clip import Limits
from alphareel.domain.options import Options, Output
from alphareel.imaging.compositor import make_compositor
from alphareel.imaging.frame import Matte
from alphareel.matting import tiers
from alphareel.matting.runtime import Device
from alphareel.media.format import format_named, parse_options
from alphareel.media.image_reader import read_image
from alphareel.media.reader import open_reader
from alphareel.pipeline.run import engine_mattes, plan_target, run, start_session
from alphareel.testing.clips import make_clip

SIZES = {"720p": (1280, 720), "1080p": (1920, 1080)}
STAGES = ("read", "matte", "write", "whole")
RESULTS = Path(__file__).parent / "results"
BUFFERED_FRAMES = 24  # frames that a stage alone holds in memory and repeats


@dataclass(frozen=True)
class Measurement:
    """One measurement, as passed to the process that runs it."""

    clip: str
    engine: str
    stage: str
    output_format: str
    frames: int
    models_dir: str | None
    device: Device = "cpu"

    @property
    def options(self) -> Options:
        return parse_options({"engine": self.engine, "output_format": self.output_format})

    @property
    def folder(self) -> Path | None:
        return Path(self.models_dir) if self.models_dir else None


@dataclass(frozen=True)
class Figure:
    """``start_seconds``: CPU time before the measurement. ``others``: cores used by other processes meanwhile."""

    frames: int
    wall_seconds: float
    cpu_seconds: float
    peak_mb: float
    start_seconds: float = 0.0
    others: float | None = None

    @property
    def fps(self) -> float:
        return self.frames / self.wall_seconds

    @property
    def cpu_ms(self) -> float:
        return 1000 * self.cpu_seconds / self.frames


def measure(spec: Measurement) -> Figure:
    """Run one measurement in this process."""
    work = {"read": read_alone, "matte": matte_alone, "write": write_alone, "whole": whole}[spec.stage]
    with tempfile.TemporaryDirectory() as folder:
        before = time.process_time()
        timed = work(spec, Path(folder) / f"out.{spec.output_format}")
        began, cpu, busy = time.perf_counter(), time.process_time(), _busy_seconds()
        frames = timed()
        wall, spent = time.perf_counter() - began, time.process_time() - cpu
        others = None if busy is None else (_busy_seconds() - busy - spent) / wall  # type: ignore[operator]
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1024 if sys.platform == "linux" else 1024**2)
    return Figure(frames, wall, spent, peak, cpu - before, others)


def _busy_seconds() -> float | None:
    """Busy seconds of all cores since the machine started; None if the system does not report them."""
    stat = Path("/proc/stat")
    if not stat.exists():
        return None
    user, nice, system, _idle, _disk, *rest = map(int, stat.read_text().splitlines()[0].split()[1:9])
    return (user + nice + system + sum(rest)) / os.sysconf("SC_CLK_TCK")


def read_alone(spec: Measurement, _: Path) -> Callable[[], int]:
    def work() -> int:
        with open_reader(Path(spec.clip), Limits()) as reader:
            selected = tiers.choose(spec.options, models_dir=spec.folder, device=spec.device)
            size = selected.engine.start(reader.clip, spec.options).model_input_size
            return sum(1 for _ in reader.frames(thumbnail=size))

    return work


def frames_and_session(spec: Measurement) -> tuple[Any, list[Any], Any]:
    """The clip, a few of its frames, and a new session of the engine."""
    selected = tiers.choose(spec.options, models_dir=spec.folder, device=spec.device)
    with open_reader(Path(spec.clip), Limits()) as reader:
        session = start_session(selected.engine, Path(spec.clip), reader.clip, spec.options, Limits())
        frames = [
            f for f, _ in zip(reader.frames(thumbnail=session.model_input_size), range(BUFFERED_FRAMES), strict=False)
        ]
        return reader.clip, frames, session


@dataclass(frozen=True)
class Agreement:
    """How far the mattes of two devices are apart. ``mean``, ``largest``: difference in 0..1. ``iou``: of both."""

    mean: float
    largest: float
    iou: float

    def __str__(self) -> str:
        return (
            f"differs from the CPU by {self.mean:.1e} (largest {self.largest:.3f}), IoU of both answers {self.iou:.4f}"
        )


def agreement(spec: Measurement) -> Agreement:
    """Compare the first mattes of the device with those of the CPU. Raises ModelUnavailable if it is not there."""
    alphas = [
        np.stack([m.alpha for f in frames for m in session.step([f])])
        for _, frames, session in map(frames_and_session, (replace(spec, device="cpu"), spec))
    ]
    difference = cv2.absdiff(*alphas) / 255
    inside, either = (np.count_nonzero(op(alphas[0] > 127, alphas[1] > 127)) for op in (np.logical_and, np.logical_or))
    return Agreement(float(difference.mean()), float(difference.max()), inside / either if either else 1.0)


def matte_alone(spec: Measurement, _: Path) -> Callable[[], int]:
    """The network and what follows it, as in the pipeline: with its look-ahead, and its two phases in two threads."""
    _clip, frames, session = frames_and_session(spec)
    there_and_back = cycle([*frames, *frames[-2:0:-1]])  # without a jump that would look like a cut

    def work() -> int:
        return sum(1 for _ in engine_mattes(session, islice(there_and_back, spec.frames)))

    return work


def write_alone(spec: Measurement, target: Path) -> Callable[[], int]:
    clip, frames, session = frames_and_session(spec)
    mattes: list[Matte] = [m for f in frames for m in session.step([f])]
    compose = make_compositor(
        spec.options,
        clip,
        read_still=lambda path: read_image(Path(path), Limits()),
        open_video=lambda path: open_reader(Path(path), Limits()),
    )
    tick = max(1, round(1 / (clip.rate * clip.time_base)))

    def work() -> int:
        output = format_named(spec.output_format).open(
            plan_target(Path(spec.clip), Output(target, spec.options), clip, compose)
        )
        for n in range(spec.frames):
            matte = mattes[n % len(mattes)]
            output.write(*compose(replace(matte, frame=replace(matte.frame, pts=n * tick, duration=tick, index=n))))
        output.finish()
        return spec.frames

    return work


def whole(spec: Measurement, target: Path) -> Callable[[], int]:
    progress = run(Path(spec.clip), [Output(target, spec.options)], models_dir=spec.folder, device=spec.device)
    first = next(progress).done

    def work() -> int:
        *_, last = progress
        return last.done - first

    return work


def in_a_process(spec: Measurement, rounds: int) -> Figure:
    """The median, by elapsed time, of ``rounds`` new processes."""
    command = [sys.executable, "-m", "benchmarks.engine", "--measurement", json.dumps(asdict(spec))]
    figures = []
    for _ in range(rounds):
        process = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
        if process.returncode:
            sys.exit(f"{spec.engine} could not be measured ({spec.stage}): see the error above.")
        figures.append(Figure(**json.loads(process.stdout)))
    return sorted(figures, key=lambda f: f.wall_seconds)[len(figures) // 2]


def rows(clips: Mapping[str, Path], arguments: argparse.Namespace, engines: Iterable[str]) -> Iterable[dict[str, Any]]:
    for name, clip in clips.items():
        for engine in engines:
            spec = Measurement(str(clip), engine, "", "webm", arguments.frames, arguments.models_dir, arguments.device)
            figures = {stage: in_a_process(replace(spec, stage=stage), arguments.rounds) for stage in STAGES}
            yield row(name, engine, figures)


def generate_clips(folder: Path, frames: int) -> dict[str, Path]:
    """Generate a clip of each size."""
    clips = {size: folder / f"{size}.mp4" for size in SIZES}
    for size, clip in clips.items():
        width, height = SIZES[size]
        make_clip(clip, frames=frames, width=width, height=height, background="green", audio=True)
    return clips


def row(size: str, engine: str, figures: dict[str, Figure]) -> dict[str, Any]:
    alone = {stage: figures[stage] for stage in STAGES if stage != "whole"}
    bound = min(alone, key=lambda stage: alone[stage].fps)
    whole_run = figures["whole"]
    cores = 1000 * (os.cpu_count() or 1) / sum(figure.cpu_ms for figure in alone.values())
    others = [figure.others for figure in figures.values() if figure.others is not None]
    return {
        "size": size,
        "engine": engine,
        "fps": round(whole_run.fps, 1),
        "peak_mb": round(whole_run.peak_mb),
        "cpu_ms": round(whole_run.cpu_ms, 1),
        **{f"{stage}_cpu_ms": round(figure.cpu_ms, 1) for stage, figure in alone.items()},
        **{f"{stage}_fps_alone": round(figure.fps, 1) for stage, figure in alone.items()},
        "bound": bound,
        "bound_fps": round(alone[bound].fps, 1),
        "share_of_bound": round(whole_run.fps / alone[bound].fps, 2),
        "cores_fps": round(cores, 1),
        "share_of_cores": round(whole_run.fps / cores, 2),
        "start_cpu_s": round(whole_run.start_seconds, 2),
        "others": round(max(others), 2) if others else None,
    }


def table(results: list[dict[str, Any]]) -> Table:
    columns = ("clip", "engine", "fps", "peak MB", "CPU ms/frame", "read", "matte", "write", "slowest", "fps / it")
    more = ("cores", "fps / them", "start, CPU s", "others")
    output = Table(
        *columns, *more, title="pipeline to WebM with alpha; read, matte, write: CPU ms per frame, each stage alone"
    )
    for r in results:
        stages = [f"{r[f'{s}_cpu_ms']:.1f}" for s in ("read", "matte", "write")]
        bound = f"{r['bound']} {r['bound_fps']:.1f} fps"
        cells = [r["size"], r["engine"], f"{r['fps']:.1f}", f"{r['peak_mb']}", f"{r['cpu_ms']:.1f}"]
        cores = [f"{r['cores_fps']:.1f} fps", f"{r['share_of_cores']:.2f}"]
        others = "-" if r["others"] is None else f"{r['others']:.2f}"
        output.add_row(*cells, *stages, bound, f"{r['share_of_bound']:.2f}", *cores, f"{r['start_cpu_s']:.1f}", others)
    return output


def machine() -> dict[str, Any]:
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else None
    return {"cores": os.cpu_count(), "machine": platform.machine(), "python": platform.python_version(), "load": load}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models-dir", help="folder with installed weights")
    parser.add_argument("--engines", nargs="*", help="engines to measure; default: all that are available")
    parser.add_argument("--clip", type=Path, help="a clip with at least --frames frames")
    parser.add_argument("--frames", type=int, default=120)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--device", choices=get_args(Device), default="cpu", help="which runs the network")
    parser.add_argument("--measurement", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.measurement:
        print(json.dumps(asdict(measure(Measurement(**json.loads(arguments.measurement))))))
        return
    folder = Path(arguments.models_dir) if arguments.models_dir else None
    ready = arguments.engines or [status.info.name for status in tiers.list_engines(folder) if status.available]
    with tempfile.TemporaryDirectory() as clip_folder:
        clips = {"given": arguments.clip} if arguments.clip else generate_clips(Path(clip_folder), arguments.frames)
        if arguments.device != "cpu":
            for name, engine in product(clips, ready):
                spec = Measurement(str(clips[name]), engine, "", "webm", 0, arguments.models_dir, arguments.device)
                print(f"{name}, {engine}: {agreement(spec)}")
        results = list(rows(clips, arguments, ready))
    Console(width=170).print(table(results))
    RESULTS.mkdir(exist_ok=True)
    now = datetime.now(UTC)
    record = {
        "at": now.isoformat(timespec="seconds"),
        "machine": machine(),
        "frames": arguments.frames,
        "rows": results,
    }
    path = RESULTS / f"engine-{now:%Y%m%d-%H%M%S}.json"
    path.write_text(json.dumps(record, indent=2) + "\n")
    print(f"median of {arguments.rounds} runs each; saved to {path.relative_to(Path.cwd())}")


if __name__ == "__main__":
    main()
