"""What a frame costs here and with others: the same clip, the same machine, one run, turn by turn.

    ./dev bench peers [--models-dir DIR] [--peers-python FILE] [--frames N] [--minutes M]

Every contestant is a command of its own process, run on the whole clip and on its first frames. The difference is what
further frames cost; the rest is the cost of starting. Rounds go on while there is time for another one, and medians
count; fps need two rounds. "vs floor" divides by the cheapest way to make a WebM at all: FFmpeg's decoder straight
into its VP9 encoder, without a matte and without alpha. CPU ms are user and system time of all threads and children.

``--models-dir`` brings engines and peers that need files of yours (rvm). ``--peers-python`` is the interpreter of an
environment in which rembg or backgroundremover are installed; they are never dependencies of this project:

    python3 -m venv /tmp/peers && /tmp/peers/bin/pip install "rembg[cpu]" backgroundremover imageio-ffmpeg

backgroundremover calls ffmpeg and ffprobe, which are looked for beside the interpreter first.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Any

import onnx
from onnx import TensorProto, helper
from rich.console import Console
from rich.table import Table

from alphareel.matting import tiers
from alphareel.testing.clips import make_clip
from benchmarks.engine import RESULTS, machine

FORMATS = {"webm": "webm", "mov": "mov", "mp4": "mp4", "gif": "gif", "webp": "webp", "png_sequence": "zip"}
FLOOR = "FFmpeg, VP9"
SIZE = (1280, 720)
FEW = 8  # frames of the short clip
_ENOUGH = 2  # rounds without which a clock on a busy machine tells nothing
FOLDER = Path(__file__).parent
_RVM = "rvm_mobilenetv3.onnx"


@dataclass(frozen=True)
class Contestant:
    """``command`` makes of (clip, target) what to run; ``note`` says what the reader must know of it.

    ``compiles``: its first run ever costs a minute of compiling, which is not measured.
    """

    name: str
    command: Callable[[Path, Path], list[str]]
    suffix: str = "webm"
    note: str = ""
    environment: Mapping[str, str] = field(default_factory=dict)
    compiles: bool = False


@dataclass(frozen=True)
class Cost:
    """Seconds on the clock, seconds of processors, megabytes at the peak of one process."""

    wall: float
    cpu: float
    peak_mb: float


def contestants(models_dir: Path | None, peers_python: Path | None, folder: Path) -> Iterator[Contestant]:
    yield Contestant(FLOOR, _ours("benchmarks.peer_ffmpeg", "libvpx-vp9"), note="no matte, no alpha")
    yield Contestant("FFmpeg, H.264", _ours("benchmarks.peer_ffmpeg", "libx264"), "mp4", "no matte, no alpha")
    for offer in tiers.list_engines(models_dir):
        if offer.available and offer.spec.name != "builtin":
            yield _alphareel(offer.spec.name, "webm", models_dir)
    for name in FORMATS:
        yield _alphareel("builtin", name, models_dir)
    if models_dir is not None and (models_dir / _RVM).is_file():
        yield Contestant(
            "RVM by ONNX Runtime",
            _ours("benchmarks.peer_rvm", str(models_dir / _RVM)),
            note="its authors' loop: decode, infer, encode, one after the other",
        )
    if peers_python is not None:
        yield from _foreign(peers_python, folder)


def _alphareel(engine: str, name: str, models_dir: Path | None) -> Contestant:
    command = [str(Path(sys.executable).with_name("alphareel")), "cut", "--engine", engine, "--format", name]
    command += ["--models-dir", str(models_dir)] if models_dir else []
    command += ["--background", "white"] if name == "mp4" else []
    return Contestant(f"alphareel {engine}, {name}", lambda c, t: [*command, str(c), str(t)], FORMATS[name])


def _ours(module: str, *words: str) -> Callable[[Path, Path], list[str]]:
    return lambda clip, target: [sys.executable, "-m", module, *words, str(clip), str(target)]


def _foreign(python: Path, folder: Path) -> Iterator[Contestant]:
    """Peers of another environment; a script prepares there what they need and tells which can run."""
    _write_identity(folder / "identity.onnx")
    script = [str(python), str(FOLDER / "peer_foreign.py")]
    told = subprocess.run([*script, "prepare", str(folder)], stdout=subprocess.PIPE, text=True, check=True)
    path = f"{python.parent}{os.pathsep}{os.environ['PATH']}"  # its ffmpeg and ffprobe lie beside it
    environment = {"PATH": path, "U2NETP_PATH": str(folder / "u2netp.pth"), "U2NET_HOME": str(folder)}
    for name, note in json.loads(told.stdout.splitlines()[-1]).items():
        command = [*script, name, str(folder)]
        made = lambda c, t, command=command: [*command, str(c), str(t)]  # noqa: E731
        suffix = "webm" if name == "rembg" else "mov"
        yield Contestant(name, made, suffix, note, environment, compiles=True)


def _write_identity(path: Path) -> None:
    """A network of rembg's shape that answers with the mean of its input's channels."""
    given = helper.make_tensor_value_info("input", TensorProto.FLOAT, [1, 3, 320, 320])
    answer = helper.make_tensor_value_info("output", TensorProto.FLOAT, [1, 1, 320, 320])
    mean = helper.make_node("ReduceMean", ["input"], ["output"], axes=[1], keepdims=1)
    graph = helper.make_graph([mean], "identity", [given], [answer])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8), str(path))


def run(contestant: Contestant, clip: Path, folder: Path) -> Cost:
    """One command on one clip. Raises RuntimeError with its last words when it fails or writes nothing."""
    target = folder / f"out.{contestant.suffix}"
    target.unlink(missing_ok=True)
    with tempfile.TemporaryFile() as words:
        began = time.perf_counter()
        process = subprocess.Popen(
            contestant.command(clip, target),
            stdout=subprocess.DEVNULL,
            stderr=words,
            cwd=FOLDER.parent,
            env={**os.environ, **contestant.environment},
        )
        _, status, used = os.wait4(process.pid, 0)
        wall = time.perf_counter() - began
        process.returncode = os.waitstatus_to_exitcode(status)
        words.seek(0)
        if process.returncode or not target.exists():
            raise RuntimeError(f"{contestant.name} failed: {words.read()[-500:].decode(errors='replace')}")
    peak = used.ru_maxrss / (1024 if sys.platform == "linux" else 1024**2)
    return Cost(wall, used.ru_utime + used.ru_stime, peak)


def measure(field_of: list[Contestant], clips: tuple[Path, Path], folder: Path, minutes: float) -> tuple[Any, int]:
    """({name: [(few, many), ...]}, rounds): rounds in turn while another one fits into the time."""
    costs: dict[str, list[tuple[Cost, Cost]]] = defaultdict(list)
    began, rounds = time.perf_counter(), 0
    while True:
        for contestant in list(field_of):
            try:
                if contestant.compiles and not rounds:
                    run(contestant, clips[0], folder)
                few, many = (run(contestant, clip, folder) for clip in clips)
            except RuntimeError as error:
                print(error, file=sys.stderr)
                field_of.remove(contestant)
                continue
            costs[contestant.name].append((few, many))
        rounds += 1
        spent = time.perf_counter() - began
        if spent + spent / rounds > minutes * 60:
            return costs, rounds


def rows(field_of: list[Contestant], costs: Mapping[str, list[tuple[Cost, Cost]]], frames: int) -> list[dict[str, Any]]:
    made = [_row(contestant, costs[contestant.name], frames) for contestant in field_of if costs[contestant.name]]
    floor = next(row for row in made if row["name"] == FLOOR)
    for row in made:
        row["cpu_vs_floor"] = round(row["cpu_ms"] / floor["cpu_ms"], 2)
    return made


def _row(contestant: Contestant, pairs: list[tuple[Cost, Cost]], frames: int) -> dict[str, Any]:
    further = frames - FEW
    cpu = median((many.cpu - few.cpu) / further for few, many in pairs)
    wall = median((many.wall - few.wall) / further for few, many in pairs)
    return {
        "name": contestant.name,
        "fps": round(1 / wall, 1) if wall > 0 and len(pairs) >= _ENOUGH else None,
        "cpu_ms": round(1000 * cpu, 1),
        "start_cpu_s": round(median(few.cpu for few, _ in pairs) - FEW * cpu, 2),
        "peak_mb": round(median(many.peak_mb for _, many in pairs)),
        "note": contestant.note,
    }


def table(made: list[dict[str, Any]], frames: int) -> Table:
    shown = Table("", "fps", "CPU ms/frame", "vs floor", "start, CPU s", "peak MB", "note",
                  title=f"{frames} frames of {SIZE[0]}x{SIZE[1]}, H.264 with sound")  # fmt: skip
    for row in made:
        fps = "-" if row["fps"] is None else f"{row['fps']:.1f}"
        shown.add_row(row["name"], fps, f"{row['cpu_ms']:.1f}", f"{row['cpu_vs_floor']:.2f}",
                      f"{row['start_cpu_s']:.1f}", f"{row['peak_mb']}", row["note"])  # fmt: skip
    return shown


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models-dir", type=Path, help="folder with weights of your own (rvm)")
    parser.add_argument("--peers-python", type=Path, help="interpreter of an environment with rembg, backgroundremover")
    parser.add_argument("--frames", type=int, default=56)
    parser.add_argument("--minutes", type=float, default=4)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        clips = folder / "few.mp4", folder / "many.mp4"
        for clip, frames in zip(clips, (FEW, arguments.frames), strict=True):
            make_clip(clip, frames=frames, width=SIZE[0], height=SIZE[1], background="green", audio=True)
        field_of = list(contestants(arguments.models_dir, arguments.peers_python, folder))
        costs, rounds = measure(field_of, clips, folder, arguments.minutes)
    made = rows(field_of, costs, arguments.frames)
    Console(width=150).print(table(made, arguments.frames))
    RESULTS.mkdir(exist_ok=True)
    now = datetime.now(UTC)
    at = now.isoformat(timespec="seconds")
    record = {"at": at, "machine": machine(), "frames": arguments.frames, "rounds": rounds, "rows": made}
    path = RESULTS / f"peers-{now:%Y%m%d-%H%M%S}.json"
    path.write_text(json.dumps(record, indent=2) + "\n")
    print(f"medians of {rounds} rounds; kept in {path.name}")


if __name__ == "__main__":
    main()
