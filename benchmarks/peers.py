"""Cost per frame of alphareel and its peers: the same clip on the same machine in alternating rounds.

    ./dev bench peers [--models-dir DIR] [--peers-python FILE] [--frames N] [--minutes M]

Each candidate is a command that runs on the whole clip and on its first frames. The difference is the cost of further
frames, the rest is start-up. Rounds repeat while there is time. Figures are medians; fps need two rounds. "vs floor"
divides by the cheapest way to write a WebM: FFmpeg's decoder straight into its VP9 encoder, without a matte or alpha.
CPU ms are user and system time of all threads and child processes.

``--models-dir`` adds engines and peers with installed weights (rvm). ``--peers-python`` is the interpreter of an
environment with rembg or backgroundremover, which are not dependencies of this project:

    python3 -m venv /tmp/peers && /tmp/peers/bin/pip install "rembg[cpu]" backgroundremover imageio-ffmpeg

backgroundremover calls ffmpeg and ffprobe, which are searched next to the interpreter first.
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
MIN_ROUNDS = 2  # for elapsed times
FOLDER = Path(__file__).parent
_RVM = "rvm_mobilenetv3.onnx"


@dataclass(frozen=True)
class Candidate:
    """``command`` returns the command line for (clip, target). ``note``: a remark for the table.

    ``compiles``: its first run compiles for a minute, which is not measured.
    """

    name: str
    command: Callable[[Path, Path], list[str]]
    suffix: str = "webm"
    note: str = ""
    environment: Mapping[str, str] = field(default_factory=dict)
    compiles: bool = False


@dataclass(frozen=True)
class Cost:
    """Elapsed seconds, CPU seconds, and peak megabytes of one process."""

    wall: float
    cpu: float
    peak_mb: float


def candidates(models_dir: Path | None, peers_python: Path | None, folder: Path) -> Iterator[Candidate]:
    yield Candidate(FLOOR, _module_command("benchmarks.peer_ffmpeg", "libvpx-vp9"), note="no matte, no alpha")
    yield Candidate("FFmpeg, H.264", _module_command("benchmarks.peer_ffmpeg", "libx264"), "mp4", "no matte, no alpha")
    for status in tiers.list_engines(models_dir):
        if status.available and status.info.name != "builtin":
            yield _alphareel(status.info.name, "webm", models_dir)
    for name in FORMATS:
        yield _alphareel("builtin", name, models_dir)
    if models_dir is not None and (models_dir / _RVM).is_file():
        yield Candidate(
            "RVM by ONNX Runtime",
            _module_command("benchmarks.peer_rvm", str(models_dir / _RVM)),
            note="its authors' loop: decode, infer, encode, one after the other",
        )
    if peers_python is not None:
        yield from _external_peers(peers_python, folder)


def _alphareel(engine: str, name: str, models_dir: Path | None) -> Candidate:
    command = [str(Path(sys.executable).with_name("alphareel")), "cut", "--engine", engine, "--format", name]
    command += ["--models-dir", str(models_dir)] if models_dir else []
    command += ["--background", "white"] if name == "mp4" else []
    return Candidate(f"alphareel {engine}, {name}", lambda c, t: [*command, str(c), str(t)], FORMATS[name])


def _module_command(module: str, *words: str) -> Callable[[Path, Path], list[str]]:
    return lambda clip, target: [sys.executable, "-m", module, *words, str(clip), str(target)]


def _external_peers(python: Path, folder: Path) -> Iterator[Candidate]:
    """Peers of another environment. A script prepares them there and reports which can run."""
    _write_identity(folder / "identity.onnx")
    script = [str(python), str(FOLDER / "peer_rembg.py")]
    report = subprocess.run([*script, "prepare", str(folder)], stdout=subprocess.PIPE, text=True, check=True)
    path = f"{python.parent}{os.pathsep}{os.environ['PATH']}"  # with its ffmpeg and ffprobe
    environment = {"PATH": path, "U2NETP_PATH": str(folder / "u2netp.pth"), "U2NET_HOME": str(folder)}
    for name, note in json.loads(report.stdout.splitlines()[-1]).items():
        command = [*script, name, str(folder)]
        build = lambda c, t, command=command: [*command, str(c), str(t)]  # noqa: E731
        suffix = "webm" if name == "rembg" else "mov"
        yield Candidate(name, build, suffix, note, environment, compiles=True)


def _write_identity(path: Path) -> None:
    """Write a network with rembg's interface that returns the mean of its input's channels."""
    image = helper.make_tensor_value_info("input", TensorProto.FLOAT, [1, 3, 320, 320])
    alpha = helper.make_tensor_value_info("output", TensorProto.FLOAT, [1, 1, 320, 320])
    mean = helper.make_node("ReduceMean", ["input"], ["output"], axes=[1], keepdims=1)
    graph = helper.make_graph([mean], "identity", [image], [alpha])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8), str(path))


def run(candidate: Candidate, clip: Path, folder: Path) -> Cost:
    """Run one command on one clip. Raises RuntimeError with the end of its stderr when it fails or writes nothing."""
    target = folder / f"out.{candidate.suffix}"
    target.unlink(missing_ok=True)
    with tempfile.TemporaryFile() as stderr:
        began = time.perf_counter()
        process = subprocess.Popen(
            candidate.command(clip, target),
            stdout=subprocess.DEVNULL,
            stderr=stderr,
            cwd=FOLDER.parent,
            env={**os.environ, **candidate.environment},
        )
        _, status, used = os.wait4(process.pid, 0)
        wall = time.perf_counter() - began
        process.returncode = os.waitstatus_to_exitcode(status)
        stderr.seek(0)
        if process.returncode or not target.exists():
            raise RuntimeError(f"{candidate.name} failed: {stderr.read()[-500:].decode(errors='replace')}")
    peak = used.ru_maxrss / (1024 if sys.platform == "linux" else 1024**2)
    return Cost(wall, used.ru_utime + used.ru_stime, peak)


def measure(
    candidates_list: list[Candidate], clips: tuple[Path, Path], folder: Path, minutes: float
) -> tuple[Any, int]:
    """({name: [(few, many), ...]}, rounds): alternating rounds until the time is up."""
    costs: dict[str, list[tuple[Cost, Cost]]] = defaultdict(list)
    began, rounds = time.perf_counter(), 0
    while True:
        for candidate in list(candidates_list):
            try:
                if candidate.compiles and not rounds:
                    run(candidate, clips[0], folder)
                few, many = (run(candidate, clip, folder) for clip in clips)
            except RuntimeError as error:
                print(error, file=sys.stderr)
                candidates_list.remove(candidate)
                continue
            costs[candidate.name].append((few, many))
        rounds += 1
        elapsed = time.perf_counter() - began
        if elapsed + elapsed / rounds > minutes * 60:
            return costs, rounds


def rows(
    candidates_list: list[Candidate], costs: Mapping[str, list[tuple[Cost, Cost]]], frames: int
) -> list[dict[str, Any]]:
    results = [_row(candidate, costs[candidate.name], frames) for candidate in candidates_list if costs[candidate.name]]
    floor = next(row for row in results if row["name"] == FLOOR)
    for row in results:
        row["cpu_vs_floor"] = round(row["cpu_ms"] / floor["cpu_ms"], 2)
    return results


def _row(candidate: Candidate, pairs: list[tuple[Cost, Cost]], frames: int) -> dict[str, Any]:
    further = frames - FEW
    cpu = median((many.cpu - few.cpu) / further for few, many in pairs)
    wall = median((many.wall - few.wall) / further for few, many in pairs)
    return {
        "name": candidate.name,
        "fps": round(1 / wall, 1) if wall > 0 and len(pairs) >= MIN_ROUNDS else None,
        "cpu_ms": round(1000 * cpu, 1),
        "start_cpu_s": round(median(few.cpu for few, _ in pairs) - FEW * cpu, 2),
        "peak_mb": round(median(many.peak_mb for _, many in pairs)),
        "note": candidate.note,
    }


def table(results: list[dict[str, Any]], frames: int) -> Table:
    output = Table("", "fps", "CPU ms/frame", "vs floor", "start, CPU s", "peak MB", "note",
                  title=f"{frames} frames of {SIZE[0]}x{SIZE[1]}, H.264 with sound")  # fmt: skip
    for row in results:
        fps = "-" if row["fps"] is None else f"{row['fps']:.1f}"
        output.add_row(row["name"], fps, f"{row['cpu_ms']:.1f}", f"{row['cpu_vs_floor']:.2f}",
                      f"{row['start_cpu_s']:.1f}", f"{row['peak_mb']}", row["note"])  # fmt: skip
    return output


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models-dir", type=Path, help="folder with installed weights")
    parser.add_argument("--peers-python", type=Path, help="interpreter of an environment with rembg, backgroundremover")
    parser.add_argument("--frames", type=int, default=56)
    parser.add_argument("--minutes", type=float, default=4)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        clips = folder / "few.mp4", folder / "many.mp4"
        for clip, frames in zip(clips, (FEW, arguments.frames), strict=True):
            make_clip(clip, frames=frames, width=SIZE[0], height=SIZE[1], background="green", audio=True)
        candidates_list = list(candidates(arguments.models_dir, arguments.peers_python, folder))
        costs, rounds = measure(candidates_list, clips, folder, arguments.minutes)
    results = rows(candidates_list, costs, arguments.frames)
    Console(width=150).print(table(results, arguments.frames))
    RESULTS.mkdir(exist_ok=True)
    now = datetime.now(UTC)
    at = now.isoformat(timespec="seconds")
    record = {"at": at, "machine": machine(), "frames": arguments.frames, "rounds": rounds, "rows": results}
    path = RESULTS / f"peers-{now:%Y%m%d-%H%M%S}.json"
    path.write_text(json.dumps(record, indent=2) + "\n")
    print(f"medians of {rounds} rounds; saved to {path.name}")


if __name__ == "__main__":
    main()
