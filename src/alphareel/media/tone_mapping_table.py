"""How HDR colors become SDR ones, sampled from FFmpeg's scaler, which takes seconds to work that out by itself.

``python -m alphareel.media.tone_mapping_table`` samples what the package carries again. A table holds R, G and B for 65 levels
of each, 12 bits wide.
"""

import lzma
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from functools import cache
from pathlib import Path

import av
import numpy as np
from av.filter import Graph
from numpy.typing import NDArray

NODES = 65  # the scaler's own grid: at these points nothing is lost
_FULL_SCALE = 4095
_FOLDER = Path(__file__).parent / "data"
_MOST_SAMPLED = 8  # tables of 1.6 MB that a process keeps

Table = NDArray[np.uint16]


@dataclass(frozen=True)
class Grade:
    """What decides how colors are mapped.

    ``transfer`` and ``primaries``: H.273. Of the screen on which the picture was graded: ``gamut``, x and y of red,
    green and blue in thousandths, and ``peak``, cd/m2; None where the clip does not say.
    """

    transfer: int
    primaries: int = 9
    gamut: tuple[int, ...] | None = None
    peak: int | None = None


P3 = (680, 320, 265, 690, 150, 60)
BT2020 = (708, 292, 170, 797, 131, 46)
PQ, HLG = 16, 18  # SMPTE ST 2084, ARIB STD-B67
SHIPPED = {
    Grade(PQ): "tone_pq.xz",
    Grade(HLG): "tone_hlg.xz",
    Grade(PQ, gamut=P3, peak=1000): "tone_pq_p3_1000.xz",
    Grade(PQ, gamut=P3, peak=4000): "tone_pq_p3_4000.xz",
    Grade(PQ, gamut=BT2020, peak=1000): "tone_pq_bt2020_1000.xz",
}

_sampled: dict[Grade, Table] = {}
_sampling = threading.Lock()


@contextmanager
def cube_file(made: Table) -> Iterator[Path]:
    """The table as a temporary .cube file, which is what FFmpeg's filters read."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "tone.cube"
        path.write_text(_cube(made))
        yield path


def table_of(grade: Grade, frame: av.VideoFrame) -> Table:
    """(65, 65, 65, 3) by R, G and B of the HDR picture: R, G and B in BT.709, 0 to 4095.

    Of a grade that the package has no table for it is sampled by means of ``frame``, which is of that grade: seconds,
    once for a process. Raises av's errors when the scaler refuses the frame.
    """
    if grade in SHIPPED:
        return shipped(SHIPPED[grade])
    with _sampling:
        if grade not in _sampled:
            if len(_sampled) >= _MOST_SAMPLED:
                _sampled.clear()
            _sampled[grade] = sample(frame)
        return _sampled[grade]


@cache
def shipped(name: str) -> Table:
    """A table that lies in the package."""
    packed = lzma.decompress((_FOLDER / name).read_bytes())
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


def sample(frame: av.VideoFrame) -> Table:
    """The table as FFmpeg's scaler has it for frames like this one; takes seconds.

    The frame's picture is painted over with every color of the grid, so that what is said beside it stays.
    """
    graph = Graph()
    red, green, blue = (f"'round(({at})*65535/{NODES - 1})'" for at in ("Y", f"floor(X/{NODES})", f"mod(X,{NODES})"))
    chain = [
        graph.add_buffer(width=frame.width, height=frame.height, format=frame.format, time_base=Fraction(1, 25)),
        # it changes from scene to scene, and the scaler would begin anew each time
        graph.add("sidedata", "mode=delete:type=DYNAMIC_HDR_PLUS"),
        graph.add("scale", f"w={NODES * NODES}:h={NODES}"),
        graph.add("format", "gbrp16le"),
        graph.add("geq", f"r={red}:g={green}:b={blue}"),
        graph.add("scale", "intent=perceptual:out_primaries=bt709:out_transfer=bt709:out_range=pc"),
        graph.add("format", "rgb48le"),
        graph.add("buffersink"),
    ]
    graph.link_nodes(*chain).configure()
    graph.vpush(frame)
    shown = graph.vpull().to_ndarray().reshape(NODES, NODES, NODES, 3)
    made: Table = np.rint(shown.astype(np.float64) * _FULL_SCALE / 65535).astype(np.uint16)
    made.flags.writeable = False
    return made


def graded_frame(grade: Grade, folder: Path, *, width: int = 256, height: int = 192) -> av.VideoFrame:
    """A frame, gray, that says of itself what the grade says."""
    path, told = folder / "graded.mkv", "log-level=none"
    if grade.gamut is not None and grade.peak is not None:
        r, g, b = (f"({x * 50},{y * 50})" for x, y in zip(grade.gamut[::2], grade.gamut[1::2], strict=True))
        told += f":master-display=G{g}B{b}R{r}WP(15635,16450)L({grade.peak * 10000},1)"
    with av.open(str(path), "w") as made:
        stream = made.add_stream("libx265", 25, options={"preset": "ultrafast", "x265-params": told})
        context = stream.codec_context
        context.width, context.height, context.pix_fmt = width, height, "yuv420p10le"
        context.color_primaries, context.color_trc, context.colorspace = grade.primaries, grade.transfer, 9
        gray = av.VideoFrame.from_ndarray(np.full((height, width, 3), 128, np.uint8), format="rgb24")
        for packet in (*stream.encode(gray.reformat(format="yuv420p10le")), *stream.encode(None)):
            made.mux(packet)
    with av.open(str(path)) as given:
        return next(given.decode(video=0))


def _cube(made: Table) -> str:
    words = [f"{level / _FULL_SCALE:.5f}" for level in range(_FULL_SCALE + 1)]
    # red runs fastest in such a file
    levels = iter(made.transpose(2, 1, 0, 3).ravel().tolist())
    rows = (f"{words[r]} {words[g]} {words[b]}" for r, g, b in zip(levels, levels, levels, strict=True))
    return f"LUT_3D_SIZE {NODES}\n" + "\n".join(rows) + "\n"


if __name__ == "__main__":
    for each, name in SHIPPED.items():
        with tempfile.TemporaryDirectory() as place:
            (_FOLDER / name).write_bytes(pack(sample(graded_frame(each, Path(place)))))
