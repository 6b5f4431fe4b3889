"""HDR frames (PQ, HLG) become SDR BT.709: highlights are rolled off instead of cut."""

from fractions import Fraction
from typing import Any, cast

import av
import numpy as np
from av.filter import Graph

from alphareel.media.tone_mapping_table import HLG, PQ, Grade, cube_file, table_of

_OUTPUT = "out_color_matrix=bt709:out_range=tv"

_Kind = tuple[int, int, str, int, Grade, int, int]


def is_hdr(frame: av.VideoFrame) -> bool:
    """Whether the frame's brightness is coded for HDR."""
    return frame.color_trc in (PQ, HLG)


def grade_of(frame: av.VideoFrame) -> Grade:
    """What the frame says of how it was graded."""
    primaries = int(frame.color_primaries)
    told = frame.side_data.get("MASTERING_DISPLAY_METADATA")
    if told is None:
        return Grade(int(frame.color_trc), primaries)
    # x and y of red, green, blue and white, least and most light, as fractions, and whether each group counts
    numbers = np.frombuffer(cast(Any, told), np.int32)
    values = numbers[0:20:2] / np.maximum(1, numbers[1:20:2])
    has_gamut, has_light = numbers[20:22]
    gamut = tuple(int(n) for n in np.rint(1000 * values[:6])) if has_gamut else None
    return Grade(int(frame.color_trc), primaries, gamut, round(values[9]) if has_light else None)


class ToneMapper:
    """Maps frames of one clip to (width, height) yuv420p in BT.709, limited range.

    By a table that is ready for what phones record and for the usual screens of studios; that of any other is worked
    out while the first frame waits for seconds. What HDR10+ says of each scene is left aside.
    """

    def __init__(self) -> None:
        self._graph: Graph | None = None
        self._kind: _Kind | None = None

    def __call__(self, frame: av.VideoFrame, width: int, height: int) -> av.VideoFrame:
        """The frame in SDR. Raises av's errors when the scaler refuses it."""
        kind = (frame.width, frame.height, frame.format.name, frame.colorspace, grade_of(frame), width, height)
        if self._graph is None or kind != self._kind:
            self._graph, self._kind = _by_table(frame, width, height), kind
        self._graph.vpush(frame)
        return self._graph.vpull()


def _by_table(frame: av.VideoFrame, width: int, height: int) -> Graph:
    graph = Graph()
    with cube_file(table_of(grade_of(frame), frame)) as path:
        chain = [
            graph.add_buffer(
                width=frame.width,
                height=frame.height,
                format=frame.format,
                time_base=Fraction(frame.time_base or Fraction(1, 1000)),
            ),
            # the table knows it already, and the last scaler must not map once more
            graph.add("sidedata", "mode=delete"),
            graph.add("scale", f"w={width}:h={height}:flags=bicubic"),
            # at 16 bits the scaler is twice as quick as at 10
            graph.add("format", "gbrp16le"),
            graph.add("lut3d", interp="tetrahedral", file=str(path)),
            graph.add("setparams", "color_primaries=bt709:color_trc=bt709"),
            graph.add("scale", f"flags=bicubic:{_OUTPUT}"),
            graph.add("format", "yuv420p"),
            graph.add("buffersink"),
        ]
        graph.link_nodes(*chain).configure()
    return graph
