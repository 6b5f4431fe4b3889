"""HDR frames (PQ, HLG) become SDR BT.709: highlights are rolled off instead of cut."""

from fractions import Fraction

import av
from av.filter import Graph

_HDR_TRANSFERS = (16, 18)  # SMPTE ST 2084 (PQ), ARIB STD-B67 (HLG)


def is_hdr(frame: av.VideoFrame) -> bool:
    """Whether the frame's brightness is coded for HDR."""
    return frame.color_trc in _HDR_TRANSFERS


class ToneMapper:
    """Maps frames of one clip to (width, height) yuv420p in BT.709, limited range.

    The first frame takes seconds, while FFmpeg tabulates the mapping; the others a few milliseconds.
    """

    def __init__(self) -> None:
        self._graph: Graph | None = None
        self._kind: tuple[int, int, str, int, int] | None = None

    def __call__(self, frame: av.VideoFrame, width: int, height: int) -> av.VideoFrame:
        """The frame in SDR. Raises av's errors when the scaler refuses it."""
        kind = (frame.width, frame.height, frame.format.name, width, height)
        if self._graph is None or kind != self._kind:
            self._graph, self._kind = _graph(frame, width, height), kind
        self._graph.vpush(frame)
        return self._graph.vpull()


def _graph(frame: av.VideoFrame, width: int, height: int) -> Graph:
    graph = Graph()
    source = graph.add_buffer(
        width=frame.width,
        height=frame.height,
        format=frame.format,
        time_base=Fraction(frame.time_base or Fraction(1, 1000)),
    )
    scaler = graph.add(
        "scale",
        f"w={width}:h={height}:flags=bicubic:intent=perceptual"
        ":out_color_matrix=bt709:out_primaries=bt709:out_transfer=bt709:out_range=tv",
    )
    graph.link_nodes(source, scaler, graph.add("format", "yuv420p"), graph.add("buffersink"))
    graph.configure()
    return graph
