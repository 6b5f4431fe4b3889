"""How HDR colours become SDR ones, sampled from FFmpeg's scaler, which takes seconds to work that out by itself.

``python -m alphareel.media.tone_table`` samples it again. A table holds R, G and B for 65 levels of each, 12 bits wide.
"""

import lzma
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from functools import cache
from pathlib import Path

import av
import numpy as np
from av.filter import Graph
from numpy.typing import NDArray

NODES = 65  # the scaler's own grid: at these points nothing is lost
TABLES = {16: "tone_pq.xz", 18: "tone_hlg.xz"}  # by transfer: SMPTE ST 2084 (PQ), ARIB STD-B67 (HLG)
_FULL_SCALE = 4095
_FOLDER = Path(__file__).parent

Table = NDArray[np.uint16]


@contextmanager
def cube_file(transfer: int) -> Iterator[Path]:
    """The table of a transfer function as a temporary .cube file, which is what FFmpeg's filters read."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "tone.cube"
        path.write_text(_cube(transfer))
        yield path


@cache
def table(transfer: int) -> Table:
    """(65, 65, 65, 3) by R, G and B of the HDR picture: R, G and B in BT.709, 0 to 4095."""
    packed = lzma.decompress((_FOLDER / TABLES[transfer]).read_bytes())
    low, high = np.frombuffer(packed, np.uint8).reshape(2, NODES, NODES, NODES, 3)
    steps = (low | (high.astype(np.uint16) << 8)).view(np.int16)
    made: Table = np.cumsum(steps, axis=2, dtype=np.int32).astype(np.uint16)
    made.flags.writeable = False
    return made


def pack(made: Table) -> bytes:
    """A table as it is kept: differences along blue, low and high bytes apart, compressed."""
    steps = np.diff(made.astype(np.int32), axis=2, prepend=0).astype("<i2")
    parts = np.ascontiguousarray(np.moveaxis(steps.view(np.uint8).reshape(*steps.shape, 2), -1, 0))
    return lzma.compress(parts.tobytes(), preset=9 | lzma.PRESET_EXTREME)


def sample(transfer: int) -> Table:
    """The table as FFmpeg's scaler has it, for BT.2020 without mastering metadata; takes seconds."""
    levels = np.rint(np.linspace(0, 65535, NODES)).astype(np.uint16)
    every = np.stack(np.meshgrid(levels, levels, levels, indexing="ij"), axis=-1)
    frame = av.VideoFrame.from_ndarray(every.reshape(NODES, NODES * NODES, 3), format="rgb48le")
    frame.color_primaries, frame.color_trc, frame.colorspace, frame.color_range = 9, transfer, 0, 2
    graph = Graph()
    source = graph.add_buffer(width=frame.width, height=frame.height, format=frame.format, time_base=Fraction(1, 25))
    mapped = graph.add("scale", "intent=perceptual:out_primaries=bt709:out_transfer=bt709:out_range=pc")
    graph.link_nodes(source, mapped, graph.add("format", "rgb48le"), graph.add("buffersink")).configure()
    graph.vpush(frame)
    shown = graph.vpull().to_ndarray().reshape(NODES, NODES, NODES, 3)
    return np.rint(shown.astype(np.float64) * _FULL_SCALE / 65535).astype(np.uint16)


def _cube(transfer: int) -> str:
    words = [f"{level / _FULL_SCALE:.5f}" for level in range(_FULL_SCALE + 1)]
    # red runs fastest in such a file
    levels = iter(table(transfer).transpose(2, 1, 0, 3).ravel().tolist())
    rows = (f"{words[r]} {words[g]} {words[b]}" for r, g, b in zip(levels, levels, levels, strict=True))
    return f"LUT_3D_SIZE {NODES}\n" + "\n".join(rows) + "\n"


if __name__ == "__main__":
    for number, name in TABLES.items():
        (_FOLDER / name).write_bytes(pack(sample(number)))
