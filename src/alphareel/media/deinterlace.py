"""Deinterlaces frames with FFmpeg's bwdif filter, one output frame per input frame."""

from collections.abc import Iterator

import av
from av.filter import Graph

_Settings = tuple[int, int, str]


def deinterlace(frames: Iterator[av.VideoFrame]) -> Iterator[av.VideoFrame]:
    """``frames`` deinterlaced, timestamps unchanged. Passes frames through until the first interlaced one."""
    graph: Graph | None = None
    settings: _Settings | None = None
    for frame in frames:
        if graph is None and not frame.interlaced_frame:
            yield frame
            continue
        current = (frame.width, frame.height, frame.format.name)
        if graph is None or current != settings:
            if graph is not None:
                yield from _drain(graph)
            graph, settings = _graph(frame), current
        graph.vpush(frame)
        yield from _pull_frames(graph)
    if graph is not None:
        yield from _drain(graph)


def _graph(frame: av.VideoFrame) -> Graph:
    graph = Graph()
    source = graph.add_buffer(width=frame.width, height=frame.height, format=frame.format, time_base=frame.time_base)
    graph.link_nodes(source, graph.add("bwdif", "mode=send_frame:deint=interlaced"), graph.add("buffersink"))
    graph.configure()
    return graph


def _pull_frames(graph: Graph) -> Iterator[av.VideoFrame]:
    while True:
        try:
            frame = graph.vpull()
        except (av.error.BlockingIOError, av.error.EOFError):
            return
        yield frame


def _drain(graph: Graph) -> Iterator[av.VideoFrame]:
    graph.vpush(None)
    yield from _pull_frames(graph)
