"""Speed and memory of the pipeline, stage by stage, beside its bounds: the slowest stage alone, and the cores.

    ./dev bench engine [--models-dir DIR] [--engines NAME ...] [--clip FILE] [--frames N] [--rounds N]

Each figure is taken in a process of its own. "alone" runs one stage with the others' work done beforehand; "whole" is
the pipeline from its first frame to the verified file, since stages alone begin with their networks loaded, too; what
comes before stands in a column of its own. The bounds are the frames per second of the slowest stage alone, and what
the cores could do of all stages' work if they never waited. CPU ms are user + system of all threads. "others" is how
many cores the rest of the machine used meanwhile: walls count only where it is near zero. The clip is made, once of
each size, unless one is given.
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
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from alphareel.domain.clip import Limits
from alphareel.domain.options import Options, Output
from alphareel.imaging.compositor import make_compositor
from alphareel.imaging.frame import Matte
from alphareel.matting import tiers
from alphareel.media.format import format_named, parse_options
from alphareel.media.image_reader import read_image
from alphareel.media.reader import open_reader
from alphareel.pipeline import run as pipeline
from alphareel.testing.clips import make_clip

SIZES = {"720p": (1280, 720), "1080p": (1920, 1080)}
STAGES = ("read", "matte", "write", "whole")
RESULTS = Path(__file__).parent / "results"
HELD_FRAMES = 24  # frames kept in memory by the stages that run alone; they are gone through again and again


@dataclass(frozen=True)
class Order:
    """One measurement, as handed to the process that takes it."""

    clip: str
    engine: str
    stage: str
    output_format: str
    frames: int
    models_dir: str | None

    @property
    def options(self) -> Options:
        return parse_options({"engine": self.engine, "output_format": self.output_format})

    @property
    def folder(self) -> Path | None:
        return Path(self.models_dir) if self.models_dir else None


@dataclass(frozen=True)
class Figure:
    """``start_seconds``: CPU before what is measured. ``others``: cores that other processes used meanwhile."""

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


def measure(order: Order) -> Figure:
    """Take one figure in this process."""
    work = {"read": read_alone, "matte": matte_alone, "write": write_alone, "whole": whole}[order.stage]
    with tempfile.TemporaryDirectory() as folder:
        before = time.process_time()
        timed = work(order, Path(folder) / f"out.{order.output_format}")
        began, cpu, busy = time.perf_counter(), time.process_time(), _busy_seconds()
        frames = timed()
        wall, spent = time.perf_counter() - began, time.process_time() - cpu
        others = None if busy is None else (_busy_seconds() - busy - spent) / wall  # type: ignore[operator]
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1024 if sys.platform == "linux" else 1024**2)
    return Figure(frames, wall, spent, peak, cpu - before, others)


def _busy_seconds() -> float | None:
    """Seconds that all cores worked for anybody since the machine started; None where that is not told."""
    told = Path("/proc/stat")
    if not told.exists():
        return None
    user, nice, system, _idle, _disk, *rest = map(int, told.read_text().splitlines()[0].split()[1:9])
    return (user + nice + system + sum(rest)) / os.sysconf("SC_CLK_TCK")


def read_alone(order: Order, _: Path) -> Callable[[], int]:
    def work() -> int:
        with open_reader(Path(order.clip), Limits()) as reader:
            chosen = tiers.choose(order.options, models_dir=order.folder)
            thumbnail = chosen.engine.start(reader.clip, order.options).thumbnail
            return sum(1 for _ in reader.frames(thumbnail=thumbnail))

    return work


def mattes_of(order: Order) -> tuple[Any, list[Any], Any]:
    """The clip, a few frames of it, and fresh memory of the engine."""
    chosen = tiers.choose(order.options, models_dir=order.folder)
    with open_reader(Path(order.clip), Limits()) as reader:
        memory = pipeline.begin_matting(chosen.engine, Path(order.clip), reader.clip, order.options, Limits())
        frames = [f for f, _ in zip(reader.frames(thumbnail=memory.thumbnail), range(HELD_FRAMES), strict=False)]
        return reader.clip, frames, memory


def matte_alone(order: Order, _: Path) -> Callable[[], int]:
    _clip, frames, memory = mattes_of(order)
    memory.step(frames[:1])

    def work() -> int:
        for n in range(order.frames):
            memory.step([frames[n % len(frames)]])
        return order.frames

    return work


def write_alone(order: Order, target: Path) -> Callable[[], int]:
    clip, frames, memory = mattes_of(order)
    mattes: list[Matte] = [m for f in frames for m in memory.step([f])]
    compose = make_compositor(
        order.options,
        clip,
        read_still=lambda path: read_image(Path(path), Limits()),
        open_video=lambda path: open_reader(Path(path), Limits()),
    )
    tick = max(1, round(1 / (clip.rate * clip.time_base)))

    def work() -> int:
        output = format_named(order.output_format).open(
            pipeline.plan_target(Path(order.clip), Output(target, order.options), clip, compose)
        )
        for n in range(order.frames):
            matte = mattes[n % len(mattes)]
            output.write(*compose(replace(matte, frame=replace(matte.frame, pts=n * tick, duration=tick, index=n))))
        output.finish()
        return order.frames

    return work


def whole(order: Order, target: Path) -> Callable[[], int]:
    run = pipeline.run(Path(order.clip), [Output(target, order.options)], models_dir=order.folder)
    first = next(run).done

    def work() -> int:
        *_, last = run
        return last.done - first

    return work


def in_a_process(order: Order, rounds: int) -> Figure:
    """The median by wall time of ``rounds`` fresh processes."""
    command = [sys.executable, "-m", "benchmarks.engine", "--order", json.dumps(asdict(order))]
    figures = []
    for _ in range(rounds):
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
        if done.returncode:
            sys.exit(f"{order.engine} could not be measured ({order.stage}); the reason stands above.")
        figures.append(Figure(**json.loads(done.stdout)))
    return sorted(figures, key=lambda f: f.wall_seconds)[len(figures) // 2]


def rows(clips: Mapping[str, Path], asked: argparse.Namespace, engines: Iterable[str]) -> Iterable[dict[str, Any]]:
    for name, clip in clips.items():
        for engine in engines:
            order = Order(str(clip), engine, "", "webm", asked.frames, asked.models_dir)
            figures = {stage: in_a_process(replace(order, stage=stage), asked.rounds) for stage in STAGES}
            yield row(name, engine, figures)


def made_clips(folder: Path, frames: int) -> dict[str, Path]:
    """A clip of each size."""
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


def table(made: list[dict[str, Any]]) -> Table:
    columns = ("clip", "engine", "fps", "peak MB", "CPU ms/frame", "read", "matte", "write", "slowest", "fps / it")
    more = ("cores", "fps / them", "start, CPU s", "others")
    shown = Table(
        *columns, *more, title="pipeline to WebM with alpha; read, matte, write: CPU ms per frame, each stage alone"
    )
    for r in made:
        stages = [f"{r[f'{s}_cpu_ms']:.1f}" for s in ("read", "matte", "write")]
        bound = f"{r['bound']} {r['bound_fps']:.1f} fps"
        facts = [r["size"], r["engine"], f"{r['fps']:.1f}", f"{r['peak_mb']}", f"{r['cpu_ms']:.1f}"]
        cores = [f"{r['cores_fps']:.1f} fps", f"{r['share_of_cores']:.2f}"]
        others = "-" if r["others"] is None else f"{r['others']:.2f}"
        shown.add_row(*facts, *stages, bound, f"{r['share_of_bound']:.2f}", *cores, f"{r['start_cpu_s']:.1f}", others)
    return shown


def machine() -> dict[str, Any]:
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else None
    return {"cores": os.cpu_count(), "machine": platform.machine(), "python": platform.python_version(), "load": load}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models-dir", help="folder with weights of your own (rvm)")
    parser.add_argument("--engines", nargs="*", help="those to measure; all that are ready unless named")
    parser.add_argument("--clip", type=Path, help="a clip of yours, at least as long as --frames")
    parser.add_argument("--frames", type=int, default=120)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--order", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.order:
        print(json.dumps(asdict(measure(Order(**json.loads(arguments.order))))))
        return
    folder = Path(arguments.models_dir) if arguments.models_dir else None
    ready = arguments.engines or [offer.spec.name for offer in tiers.list_engines(folder) if offer.available]
    with tempfile.TemporaryDirectory() as place:
        clips = {"given": arguments.clip} if arguments.clip else made_clips(Path(place), arguments.frames)
        made = list(rows(clips, arguments, ready))
    Console(width=170).print(table(made))
    RESULTS.mkdir(exist_ok=True)
    now = datetime.now(UTC)
    record = {"at": now.isoformat(timespec="seconds"), "machine": machine(), "frames": arguments.frames, "rows": made}
    path = RESULTS / f"engine-{now:%Y%m%d-%H%M%S}.json"
    path.write_text(json.dumps(record, indent=2) + "\n")
    print(f"median of {arguments.rounds} runs each; kept in {path.relative_to(Path.cwd())}")


if __name__ == "__main__":
    main()
