"""Divides a long clip into chunks at key frames, by reading its packets without decoding them."""

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

from alphareel.domain.clip import Chunk, Clip, Limits
from alphareel.media.ffmpeg_errors import translating_read_errors
from alphareel.media.source import open_container, packets, video_stream

# Containers with an index of key frames.
_SEEKABLE = frozenset({"mp4", "mov", "mkv", "webm"})
_MAX_LENGTH_FACTOR = 2  # times the requested length; with rarer key frames the clip is not divided


@dataclass(frozen=True)
class PacketIndex:
    """Timestamps of a clip in ticks: of all frames and of the key frames, sorted, and the end of the last frame."""

    pts: tuple[int, ...]
    key_frames: tuple[int, ...]
    end: int

    def nearest(self, tick: Fraction) -> int:
        """The frame timestamp nearest to ``tick``. Containers with coarser time bases round timestamps."""
        position = bisect_left(self.pts, tick)
        neighbors = self.pts[max(0, position - 1) : position + 1]
        return min(neighbors, key=lambda pts: abs(pts - tick))

    def after(self, pts: int) -> int:
        """The frame timestamp that follows ``pts``; after the last one, the end."""
        position = bisect_right(self.pts, pts)
        return self.pts[position] if position < len(self.pts) else self.end


def read_packet_index(path: Path, clip: Clip, limits: Limits) -> PacketIndex | None:
    """The timestamps of a clip, read from its packets; None where they do not determine them. Raises like ``probe``."""
    if clip.container not in _SEEKABLE:
        return None
    durations: dict[int, int] = {}
    key_frames: list[int] = []
    count = 0
    with open_container(path, limits) as container, translating_read_errors(path):
        stream = video_stream(container, path)
        for packet in packets(container, stream):
            if not packet.size or packet.is_discard:
                continue
            if packet.pts is None:
                return None
            count += 1
            tick = round((packet.pts * Fraction(packet.time_base) - clip.start) / clip.time_base)
            durations[tick] = round((packet.duration or 0) * Fraction(packet.time_base) / clip.time_base)
            if packet.is_keyframe:
                key_frames.append(tick)
    pts = sorted(durations)
    if not pts or pts[0] != 0 or len(pts) < count:
        return None
    nominal = max(1, round(1 / clip.rate / clip.time_base))
    return PacketIndex(tuple(pts), tuple(sorted(key_frames)), pts[-1] + (durations[pts[-1]] or nominal))


def divide(index: PacketIndex, clip: Clip, seconds: float) -> tuple[Chunk, ...]:
    """Chunks of about ``seconds``, each of which starts at a key frame. None for a short clip or with rare key frames.

    The last chunk has no end: it takes all remaining frames.
    """
    length = max(1, round(seconds / clip.time_base))
    starts = _starts(index, length)
    ends: Sequence[int | None] = [*starts[1:], None]
    lengths = [(end or index.pts[-1]) - start for start, end in zip(starts, ends, strict=True)]
    if len(starts) < 2 or max(lengths) > _MAX_LENGTH_FACTOR * length:
        return ()
    positions = [bisect_left(index.pts, start) for start in starts]
    counts = [b - a for a, b in zip(positions, [*positions[1:], len(index.pts)], strict=True)]
    return tuple(Chunk(*fields) for fields in zip(starts, ends, counts, strict=True))


def _starts(index: PacketIndex, length: int) -> list[int]:
    """Chunk start ticks: 0, then the next key frame after each full length. A short tail joins the last chunk."""
    starts, last = [0], index.pts[-1]
    for key in index.key_frames:
        if key - starts[-1] >= length and last - key >= length // 2:
            starts.append(key)
    return starts
