"""HDR frames (PQ, HLG) become SDR BT.709: highlights are rolled off instead of cut."""

from fractions import Fraction

import av
from av.filter import Graph

from alphareel.media.tone_table import TABLES, cube_file

_BT2020 = 9  # in H.273, primaries and matrix alike
_OUTPUT = "out_color_matrix=bt709:out_range=tv"
# what the scaler adapts its mapping to; a table cannot
_MASTERED = ("MASTERING_DISPLAY_METADATA", "DYNAMIC_HDR_PLUS")

_Kind = tuple[int, int, str, int, int, int, bool]


def is_hdr(frame: av.VideoFrame) -> bool:
    """Whether the frame's brightness is coded for HDR."""
    return frame.color_trc in TABLES


class ToneMapper:
    """Maps frames of one clip to (width, height) yuv420p in BT.709, limited range.

    BT.2020 without mastering metadata, what phones record, goes by a table that is ready. For anything else FFmpeg
    works out its own while the first frame waits for seconds.
    """

    def __init__(self) -> None:
        self._graph: Graph | None = None
        self._kind: _Kind | None = None

    def __call__(self, frame: av.VideoFrame, width: int, height: int) -> av.VideoFrame:
        """The frame in SDR. Raises av's errors when the scaler refuses it."""
        is_mastered = any(frame.side_data.get(name) is not None for name in _MASTERED)
        is_usual = frame.colorspace == frame.color_primaries == _BT2020 and not is_mastered
        kind = (frame.width, frame.height, frame.format.name, frame.color_trc, width, height, is_usual)
        if self._graph is None or kind != self._kind:
            make = _by_table if is_usual else _by_scaler
            self._graph, self._kind = make(frame, width, height), kind
        self._graph.vpush(frame)
        return self._graph.vpull()


def _by_table(frame: av.VideoFrame, width: int, height: int) -> Graph:
    graph = Graph()
    with cube_file(frame.color_trc) as path:
        chain = [
            _source(graph, frame),
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


def _by_scaler(frame: av.VideoFrame, width: int, height: int) -> Graph:
    graph = Graph()
    mapped = f"w={width}:h={height}:flags=bicubic:intent=perceptual:out_primaries=bt709:out_transfer=bt709:{_OUTPUT}"
    chain = (_source(graph, frame), graph.add("scale", mapped), graph.add("format", "yuv420p"), graph.add("buffersink"))
    graph.link_nodes(*chain).configure()
    return graph


def _source(graph: Graph, frame: av.VideoFrame) -> av.filter.context.FilterContext:
    return graph.add_buffer(
        width=frame.width,
        height=frame.height,
        format=frame.format,
        time_base=Fraction(frame.time_base or Fraction(1, 1000)),
    )
