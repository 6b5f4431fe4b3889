"""Maps HDR frames (PQ, HLG) to SDR BT.709. Highlights are compressed instead of clipped.

FFmpeg's scaler defines the mapping, but computes it in seconds for every clip. It is therefore sampled into tables, and
the package ships tables of the usual gradings. A table holds R, G and B for 65 levels of each, 12 bits wide.
``python -m alphareel.media.hdr`` generates the shipped tables.
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
from typing import Any, cast

import av
import numpy as np
from av.filter import Graph
from numpy.typing import NDArray

NODES = 65  # levels of each channel: the scaler's own grid, so that sampling loses nothing
_MAX_LEVEL = 4095
_FOLDER = Path(__file__).parent / "data"
_MAX_CACHED = 8  # sampled tables of 1.6 MB that a process keeps
_OUTPUT = "out_color_matrix=bt709:out_range=tv"

_Settings = tuple[int, int, str, int, "Grade", int, int]
Table = NDArray[np.uint16]


@dataclass(frozen=True)
class Grade:
    """How a picture was graded, which determines the mapping.

    ``transfer``, ``primaries``: numbers of ITU-T H.273. ``gamut``: x and y of red, green and blue of the mastering
    display, in thousandths. ``peak``: its luminance in cd/m2. None where the clip does not state them.
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

_cache: dict[Grade, Table] = {}
_cache_lock = threading.Lock()


def is_hdr(frame: av.VideoFrame) -> bool:
    """Whether the frame has an HDR transfer function."""
    return frame.color_trc in (PQ, HLG)


def grade_of(frame: av.VideoFrame) -> Grade:
    """The grade in the frame's color tags and mastering metadata."""
    primaries = int(frame.color_primaries)
    metadata = frame.side_data.get("MASTERING_DISPLAY_METADATA")
    if metadata is None:
        return Grade(int(frame.color_trc), primaries)
    # AVMasteringDisplayMetadata: x and y of red, green, blue and white, minimum and maximum luminance, all as
    # fractions, then two flags for which group is set
    numbers = np.frombuffer(cast(Any, metadata), np.int32)
    values = numbers[0:20:2] / np.maximum(1, numbers[1:20:2])
    has_gamut, has_light = numbers[20:22]
    gamut = tuple(int(n) for n in np.rint(1000 * values[:6])) if has_gamut else None
    return Grade(int(frame.color_trc), primaries, gamut, round(values[9]) if has_light else None)


class ToneMapper:
    """Maps the frames of one clip to yuv420p, BT.709, limited range.

    Tables for the recordings of phones and for common mastering displays are shipped. For others, the first frame
    takes seconds. HDR10+ metadata is ignored.
    """

    def __init__(self) -> None:
        self._graph: Graph | None = None
        self._settings: _Settings | None = None

    def __call__(self, frame: av.VideoFrame, width: int, height: int) -> av.VideoFrame:
        """The frame in SDR, scaled to (width, height). Raises av's errors."""
        settings = (frame.width, frame.height, frame.format.name, frame.colorspace, grade_of(frame), width, height)
        if self._graph is None or settings != self._settings:
            self._graph, self._settings = _table_graph(frame, width, height), settings
        self._graph.vpush(frame)
        return self._graph.vpull()


def _table_graph(frame: av.VideoFrame, width: int, height: int) -> Graph:
    graph = Graph()
    with cube_file(table_of(grade_of(frame), frame)) as path:
        chain = [
            graph.add_buffer(
                width=frame.width,
                height=frame.height,
                format=frame.format,
                time_base=Fraction(frame.time_base or Fraction(1, 1000)),
            ),
            # the last scaler must not apply the metadata a second time
            graph.add("sidedata", "mode=delete"),
            graph.add("scale", f"w={width}:h={height}:flags=bicubic"),
            # the scaler is twice as fast at 16 bits as at 10
            graph.add("format", "gbrp16le"),
            graph.add("lut3d", interp="tetrahedral", file=str(path)),
            graph.add("setparams", "color_primaries=bt709:color_trc=bt709"),
            graph.add("scale", f"flags=bicubic:{_OUTPUT}"),
            graph.add("format", "yuv420p"),
            graph.add("buffersink"),
        ]
        graph.link_nodes(*chain).configure()
    return graph


@contextmanager
def cube_file(table: Table) -> Iterator[Path]:
    """The table as a temporary .cube file, the format that FFmpeg's filters read."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "tone.cube"
        path.write_text(_cube(table))
        yield path


def table_of(grade: Grade, frame: av.VideoFrame) -> Table:
    """(65, 65, 65, 3) uint16, indexed by R, G and B of the HDR picture: R, G and B in BT.709, 0 to 4095.

    If the package ships no table for ``grade``, samples it with ``frame``, which must have that grade. That takes
    seconds, once per process. Raises av's errors.
    """
    if grade in SHIPPED:
        return load_shipped(SHIPPED[grade])
    with _cache_lock:
        if grade not in _cache:
            if len(_cache) >= _MAX_CACHED:
                _cache.clear()
            _cache[grade] = sample(frame)
        return _cache[grade]


@cache
def load_shipped(name: str) -> Table:
    """A table of the package, by file name."""
    packed = lzma.decompress((_FOLDER / name).read_bytes())
    low, high = np.frombuffer(packed, np.uint8).reshape(2, NODES, NODES, NODES, 3)
    steps = (low | (high.astype(np.uint16) << 8)).view(np.int16)
    table: Table = np.cumsum(steps, axis=2, dtype=np.int32).astype(np.uint16)
    table.flags.writeable = False
    return table


def pack(table: Table) -> bytes:
    """The bytes of a shipped table: differences along blue, low bytes before high bytes, LZMA-compressed."""
    steps = np.diff(table.astype(np.int32), axis=2, prepend=0).astype("<i2")
    parts = np.ascontiguousarray(np.moveaxis(steps.view(np.uint8).reshape(*steps.shape, 2), -1, 0))
    return lzma.compress(parts.tobytes(), preset=9 | lzma.PRESET_EXTREME)


def sample(frame: av.VideoFrame) -> Table:
    """Sample FFmpeg's mapping of frames like this one. Takes seconds. Raises av's errors.

    Replaces the picture by all colors of the grid, so that the frame's tags and metadata stay.
    """
    graph = Graph()
    red, green, blue = (f"'round(({at})*65535/{NODES - 1})'" for at in ("Y", f"floor(X/{NODES})", f"mod(X,{NODES})"))
    chain = [
        graph.add_buffer(width=frame.width, height=frame.height, format=frame.format, time_base=Fraction(1, 25)),
        # it changes from scene to scene, and the scaler would recompute the mapping each time
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
    colors = graph.vpull().to_ndarray().reshape(NODES, NODES, NODES, 3)
    table: Table = np.rint(colors.astype(np.float64) * _MAX_LEVEL / 65535).astype(np.uint16)
    table.flags.writeable = False
    return table


def graded_frame(grade: Grade, folder: Path, *, width: int = 256, height: int = 192) -> av.VideoFrame:
    """A gray frame with the tags and the metadata of a grade."""
    path, parameters = folder / "graded.mkv", "log-level=none"
    if grade.gamut is not None and grade.peak is not None:
        r, g, b = (f"({x * 50},{y * 50})" for x, y in zip(grade.gamut[::2], grade.gamut[1::2], strict=True))
        parameters += f":master-display=G{g}B{b}R{r}WP(15635,16450)L({grade.peak * 10000},1)"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx265", 25, options={"preset": "ultrafast", "x265-params": parameters})
        context = stream.codec_context
        context.width, context.height, context.pix_fmt = width, height, "yuv420p10le"
        context.color_primaries, context.color_trc, context.colorspace = grade.primaries, grade.transfer, 9
        gray = av.VideoFrame.from_ndarray(np.full((height, width, 3), 128, np.uint8), format="rgb24")
        for packet in (*stream.encode(gray.reformat(format="yuv420p10le")), *stream.encode(None)):
            container.mux(packet)
    with av.open(str(path)) as container:
        return next(container.decode(video=0))


def _cube(table: Table) -> str:
    words = [f"{level / _MAX_LEVEL:.5f}" for level in range(_MAX_LEVEL + 1)]
    # red varies fastest in this format
    levels = iter(table.transpose(2, 1, 0, 3).ravel().tolist())
    rows = (f"{words[r]} {words[g]} {words[b]}" for r, g, b in zip(levels, levels, levels, strict=True))
    return f"LUT_3D_SIZE {NODES}\n" + "\n".join(rows) + "\n"


if __name__ == "__main__":
    for grade, name in SHIPPED.items():
        with tempfile.TemporaryDirectory() as folder:
            (_FOLDER / name).write_bytes(pack(sample(graded_frame(grade, Path(folder)))))
