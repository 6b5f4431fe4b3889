"""VP9 with alpha: color and alpha are two VP9 streams, encoded here in two threads and stored in one track.

FFmpeg's own encoder makes the same packets one after the other in one thread.
"""

import io
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, cast

import av
import numpy as np
from av.container import OutputContainer
from av.packet import PacketSideData, packet_sidedata_type_from_literal
from av.video.codeccontext import VideoCodecContext
from av.video.stream import VideoStream

from alphareel import memory
from alphareel.media.encoder_input import to_av_frame
from alphareel.media.frame_converter import view

_ALPHA_ID = (1).to_bytes(8, "big")  # Matroska's BlockAddID of an alpha plane
# libvpx sets 16 bytes to zero for each token that a frame might have, and most frames use few of them.
_TOKEN_BYTES = 16
_SUPERBLOCK = 64  # pixels: frames are whole superblocks for libvpx, which have 4x4 macroblocks
_SUPERBLOCK_TOKENS = 4 * 4 * (3 * 16 * 16 + 4)


def add_track(container: OutputContainer, codec: str) -> VideoStream:
    """A video track whose packets come from elsewhere: its codec context describes it and is never opened."""
    with av.open(io.BytesIO(), "w", format=container.format.name) as template:
        stream = template.add_stream(codec)
        return cast(VideoStream, container.add_stream_from_template(stream, opaque=False))


class AlphaEncoder:
    """Encodes yuva420p pictures with two contexts of one codec, both for yuv420p, and joins their packets.

    It opens the contexts, which must be configured.
    """

    def __init__(self, color: VideoCodecContext, alpha: VideoCodecContext) -> None:
        for context in (color, alpha):
            memory.release_zeros(context.open, token_bytes(color.width, color.height))
        self._color = color
        self._alpha = alpha
        self._gray = np.full((color.height // 2, color.width // 2), 128, np.uint8)
        self._thread = ThreadPoolExecutor(1, "encode alpha")

    def encode(self, picture: av.VideoFrame | None) -> "list[av.Packet[VideoStream]]":
        """The packets that are ready, each with its alpha. None flushes. Raises FFmpeg's errors."""
        color, alpha = (None, None) if picture is None else self._split(picture)
        pending = self._thread.submit(self._alpha.encode, alpha)
        try:
            packets = self._color.encode(color)
        finally:
            alpha_packets = pending.result()
        return _join(packets, alpha_packets)

    def close(self) -> None:
        """Stop the thread."""
        self._thread.shutdown()

    def _split(self, picture: av.VideoFrame) -> tuple[av.VideoFrame, av.VideoFrame]:
        y, u, v, alpha = (view(plane) for plane in picture.planes)
        frames = to_av_frame((y, u, v)), to_av_frame((alpha, self._gray, self._gray))
        for frame in frames:
            frame.pts, frame.duration, frame.time_base = picture.pts, picture.duration, picture.time_base
        return frames


def token_bytes(width: int, height: int) -> int:
    """Bytes that libvpx's VP9 encoder sets aside for the tokens of a frame: 96 MiB at 1080p."""
    superblocks = -(-width // _SUPERBLOCK) * -(-height // _SUPERBLOCK)
    return superblocks * _SUPERBLOCK_TOKENS * _TOKEN_BYTES


def _join(packets: Sequence[Any], alpha_packets: Sequence[Any]) -> list[Any]:
    kind = packet_sidedata_type_from_literal("matroska_block_additional")
    for packet, alpha in zip(packets, alpha_packets, strict=True):
        data = cast(Any, PacketSideData)(kind, len(_ALPHA_ID) + alpha.size)
        data.update(_ALPHA_ID + bytes(alpha))
        data.to_packet(packet, move=True)
    return list(packets)
