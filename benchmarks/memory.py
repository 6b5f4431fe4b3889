"""Peak memory of the pipeline on a very long clip: hours of small frames with audio.

    ./dev bench long [--hours H] [--rate FPS] [--engine NAME] [--format NAME]

The clip repeats the packets of a generated minute. "beside_the_model_mb" is the peak of the run minus that after one
frame. It excludes Python, our code and the loaded network.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from fractions import Fraction
from pathlib import Path
from typing import Any

import av

import alphareel
from alphareel.domain.clip import Limits
from alphareel.domain.options import Options
from alphareel.matting import tiers
from alphareel.media.format import format_named, parse_options
from alphareel.media.reader import open_reader
from alphareel.testing.clips import make_clip
from benchmarks.engine import RESULTS, machine

SIZE = (160, 90)
_SEGMENT_SECONDS = 60


def make_long(path: Path, *, hours: float, rate: int) -> None:
    """Write a clip of this many hours with audio. Takes about a second of CPU time per hour."""
    segment = make_clip(
        path.with_name("segment.mkv"),
        frames=_SEGMENT_SECONDS * rate,
        rate=rate,
        width=SIZE[0],
        height=SIZE[1],
        background="green",
        audio="aac",
        options={"g": "50", "bf": "0"},
    )
    with av.open(str(segment.path)) as source, av.open(str(path), "w") as target:
        streams = {stream.index: target.add_stream_from_template(stream) for stream in source.streams}
        packets = [(p.stream.index, p.time_base, p.pts, p.duration, p.is_keyframe, bytes(p)) for p in _packets(source)]
        for repeat in range(round(hours * 3600 / _SEGMENT_SECONDS)):
            for index, base, pts, duration, is_key, data in packets:
                packet: Any = av.Packet(data)
                packet.stream, packet.time_base, packet.is_keyframe = streams[index], base, is_key
                packet.pts = packet.dts = pts + round(repeat * _SEGMENT_SECONDS / Fraction(base))
                packet.duration = duration
                target.mux(packet)


def _packets(source: Any) -> Iterator[Any]:
    return (packet for packet in source.demux() if packet.size and packet.pts >= 0)


def peak_mb() -> float:
    """Peak memory of this process so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1024 if sys.platform == "linux" else 1024**2)


def measure(clip: Path, target: Path, options: Options) -> dict[str, Any]:
    """Run the pipeline in this process and record its peak memory after one frame and at each percent."""
    with open_reader(clip, Limits()) as reader:
        session = tiers.choose(options, None).engine.start(reader.clip, options)
        session.step([next(reader.frames(thumbnail=session.model_input_size))])
    before, sizes = peak_mb(), [0.0]
    began, cpu = time.perf_counter(), time.process_time()
    results: Any = ()
    for progress in alphareel.run(clip, target, options):
        if progress.share * 100 >= len(sizes):
            sizes.append(peak_mb())
        results = progress.results
    return {
        "frames": results[0].frames,
        "seconds": round(results[0].seconds, 1),
        "has_audio": results[0].has_audio,
        "before_mb": round(before),
        "after_a_tenth_mb": round(max(sizes[:11])),
        "peak_mb": round(max(sizes)),
        "beside_the_model_mb": round(max(sizes) - before),
        "wall_s": round(time.perf_counter() - began, 1),
        "cpu_s": round(time.process_time() - cpu, 1),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--hours", type=float, default=2)
    parser.add_argument("--rate", type=int, default=1)
    parser.add_argument("--engine", default="builtin")
    parser.add_argument("--format", default="webm")
    parser.add_argument("--clip", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    options = parse_options({"engine": arguments.engine, "output_format": arguments.format})
    if arguments.clip:
        target = arguments.clip.with_name(f"out{format_named(options.output_format).suffix}")
        print(json.dumps(measure(arguments.clip, target, options)))
        return
    with tempfile.TemporaryDirectory() as folder:
        clip = Path(folder) / "long.mkv"
        make_long(clip, hours=arguments.hours, rate=arguments.rate)
        command = [sys.executable, "-m", "benchmarks.memory", "--clip", str(clip), "--engine", arguments.engine,
                   "--format", arguments.format]  # fmt: skip
        process = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, env={**os.environ})
    result = json.loads(process.stdout)
    now = datetime.now(UTC)
    parameters = {
        "hours": arguments.hours,
        "rate": arguments.rate,
        "engine": arguments.engine,
        "format": arguments.format,
    }
    record = {"at": now.isoformat(timespec="seconds"), "machine": machine(), **parameters, **result}
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"long-{now:%Y%m%d-%H%M%S}.json"
    path.write_text(json.dumps(record, indent=2) + "\n")
    print(json.dumps(record, indent=2))
    print(f"saved to {path.name}")


if __name__ == "__main__":
    main()
