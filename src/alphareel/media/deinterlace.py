"""Interlaced frames become whole ones (bwdif), one out for one in; progressive frames pass through."""

from collections.abc import Iterator

import av
from av.filter import Graph

_Kind = tuple[int, int, str]


def progressive(frames: Iterator[av.VideoFrame]) -> Iterator[av.VideoFrame]:
    """``frames`` with both fields of each at one moment; timestamps stay. Costs nothing until one is interlaced."""
    graph: Graph | None = None
    kind: _Kind | None = None
    for frame in frames:
        if graph is None and not frame.interlaced_frame:
            yield frame
            continue
        now = (frame.width, frame.height, frame.format.name)
        if graph is None or now != kind:
            if graph is not None:
                yield from _drained(graph)
            graph, kind = _graph(frame), now
        graph.vpush(frame)
        yield from _ready(graph)
    if graph is not None:
        yield from _drained(graph)


def _graph(frame: av.VideoFrame) -> Graph:
    graph = Graph()
    source = graph.add_buffer(width=frame.width, height=frame.height, format=frame.format, time_base=frame.time_base)
    graph.link_nodes(source, graph.add("bwdif", "mode=send_frame:deint=interlaced"), graph.add("buffersink"))
    graph.configure()
    return graph


def _ready(graph: Graph) -> Iterator[av.VideoFrame]:
    while True:
        try:
            frame = graph.vpull()
        except (av.error.BlockingIOError, av.error.EOFError):
            return
        yield frame


def _drained(graph: Graph) -> Iterator[av.VideoFrame]:
    graph.vpush(None)
    yield from _ready(graph)
