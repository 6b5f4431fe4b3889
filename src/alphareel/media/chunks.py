"""Where a long clip can be taken apart: stretches between key frames, found by reading packets undecoded."""

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

from alphareel.domain.clip import Chunk, Clip, Limits
from alphareel.media.ffmpeg_errors import translating_read_errors
from alphareel.media.source import opened, packets, video_stream

# Files whose index leads to any key frame. Streams that were spliced or never finished are read in one go.
_SEEKABLE = frozenset({"mp4", "mov", "mkv", "webm"})
_LONGEST = 2  # times the wished length: where key frames are rarer, a chunk would be most of the clip


@dataclass(frozen=True)
class PacketIndex:
    """When the pictures of a clip are shown, in ticks and in order, which are key frames, when the last one ends."""

    shown: tuple[int, ...]
    keys: tuple[int, ...]
    end: int

    def nearest(self, tick: Fraction) -> int:
        """The stamp nearest to a tick; containers that count in coarser ones round."""
        place = bisect_left(self.shown, tick)
        around = self.shown[max(0, place - 1) : place + 1]
        return min(around, key=lambda shown: abs(shown - tick))

    def after(self, shown: int) -> int:
        """The stamp that follows one, after the last the end."""
        place = bisect_right(self.shown, shown)
        return self.shown[place] if place < len(self.shown) else self.end


def read_packet_index(path: Path, clip: Clip, limits: Limits) -> PacketIndex | None:
    """The stamps of a clip as its packets tell them; None where they alone do not say which picture is shown when."""
    if clip.container not in _SEEKABLE:
        return None
    lasting: dict[int, int] = {}
    keys: list[int] = []
    count = 0
    with opened(path, limits) as container, translating_read_errors(path):
        stream = video_stream(container, path)
        for packet in packets(container, stream):
            if not packet.size or packet.is_discard:
                continue
            if packet.pts is None:
                return None
            count += 1
            tick = round((packet.pts * Fraction(packet.time_base) - clip.start) / clip.time_base)
            lasting[tick] = round((packet.duration or 0) * Fraction(packet.time_base) / clip.time_base)
            if packet.is_keyframe:
                keys.append(tick)
    shown = sorted(lasting)
    if not shown or shown[0] != 0 or len(shown) < count:
        return None
    usual = max(1, round(1 / clip.rate / clip.time_base))
    return PacketIndex(tuple(shown), tuple(sorted(keys)), shown[-1] + (lasting[shown[-1]] or usual))


def divide(stamps: PacketIndex, clip: Clip, seconds: float) -> tuple[Chunk, ...]:
    """Chunks of about ``seconds``, each from a key frame on; none where the clip is short or key frames are rare.

    The last one has no end: it takes whatever there is.
    """
    wished = max(1, round(seconds / clip.time_base))
    starts = _starts(stamps, wished)
    ends: Sequence[int | None] = [*starts[1:], None]
    lengths = [(end or stamps.shown[-1]) - start for start, end in zip(starts, ends, strict=True)]
    if len(starts) < 2 or max(lengths) > _LONGEST * wished:
        return ()
    places = [bisect_left(stamps.shown, start) for start in starts]
    counts = [b - a for a, b in zip(places, [*places[1:], len(stamps.shown)], strict=True)]
    return tuple(Chunk(*facts) for facts in zip(starts, ends, counts, strict=True))


def _starts(stamps: PacketIndex, wished: int) -> list[int]:
    """Zero, and after it each first key frame that is a chunk's length further on; the last chunk is no crumb."""
    starts, last = [0], stamps.shown[-1]
    for key in stamps.keys:
        if key - starts[-1] >= wished and last - key >= wished // 2:
            starts.append(key)
    return starts
