"""A long clip costs no more memory than a short one: a whole run in a process of its own, its size watched."""

import json
import subprocess
import sys
from pathlib import Path

import av
import pytest

from alphareel.testing.clips import make_clip

FRAMES = 2_400  # a plane lost with each frame would be 28 MiB
GROWTH = 12  # MiB that caches and a fragmented heap may take after the first tenth
# Runs the cut given as arguments and prints, as JSON, the share that was done and the process's size in MiB every 10 ms.
CUT = """
import json, os, sys, threading
import alphareel
from alphareel.domain.options import Options

def watch():
    while not done.wait(0.01):
        with open("/proc/self/statm") as file:
            sizes.append((share, int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20))

source, target = sys.argv[1:]
sizes, share, done = [], 0.0, threading.Event()
watcher = threading.Thread(target=watch)
watcher.start()
try:
    for progress in alphareel.run(source, target, Options(engine="chroma"), threads=1):
        share = progress.share
finally:
    done.set()
    watcher.join()
print(json.dumps({"sizes": sizes, "frames": progress.result.frames}))
"""


@pytest.fixture(scope="module")
def long_clip(tmp_path_factory):
    """Sixteen seconds of green screen, its packets repeated until there are FRAMES of them."""
    folder = tmp_path_factory.mktemp("long")
    short = make_clip(folder / "short.mp4", frames=400, background="green", options={"g": "50", "bf": "0"})
    path = folder / "long.mp4"
    with av.open(str(short.path)) as source, av.open(str(path), "w") as target:
        stream = target.add_stream_from_template(source.streams.video[0])
        packets = [(bytes(p), p.pts, p.duration, p.is_keyframe) for p in source.demux(video=0) if p.size]
        base, span = source.streams.video[0].time_base, sum(p[2] for p in packets)
        for turn in range(FRAMES // len(packets)):
            for data, pts, duration, key in packets:
                packet = av.Packet(data)
                packet.stream, packet.time_base, packet.is_keyframe = stream, base, key
                packet.pts = packet.dts = pts + turn * span
                packet.duration = duration
                target.mux(packet)
    return path


@pytest.mark.e2e
@pytest.mark.timeout(600)
@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="the size of a process is read from Linux's /proc")
def test_a_clip_ten_times_as_long_takes_no_more_memory(long_clip, tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", CUT, str(long_clip), str(tmp_path / "out.webm")],
        capture_output=True, text=True, timeout=570, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["frames"] == FRAMES
    warm = max(size for share, size in told["sizes"] if share <= 0.1)
    rest = [size for share, size in told["sizes"] if share > 0.1]
    assert len(rest) > 50
    assert max(rest) - warm < GROWTH, f"it grew from {warm:.0f} to {max(rest):.0f} MiB"
