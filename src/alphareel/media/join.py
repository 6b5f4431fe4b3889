"""Concatenates chunks of an output without encoding again: copies their packets and adds the source's audio."""

from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import partial
from math import ceil
from pathlib import Path
from typing import Any, TypeAlias

import av
import av.error
from av.container import OutputContainer
from av.video.stream import VideoStream

from alphareel.domain.clip import Chunk
from alphareel.domain.errors import InternalError
from alphareel.media.atomic_file import AtomicFile
from alphareel.media.chunks import PacketIndex
from alphareel.media.ffmpeg_errors import translating_read_errors, translating_write_errors
from alphareel.media.matte_facts import matte_tags
from alphareel.media.output_file import Target, expected_output
from alphareel.media.result_tag import RESULT_METADATA
from alphareel.media.source import open_container, packets, video_stream
from alphareel.media.verify import UNLIMITED, Sample, Verified, verify
from alphareel.media.video_file import MAX_AUDIO_TAIL, EncoderProfile, extend_last_packet, open_audio

_MAX_SAMPLES = 6


@dataclass(frozen=True)
class ChunkFile:
    """A finished chunk: a silent output file whose timestamps start at zero. ``frames``: how many it holds."""

    path: Path
    chunk: Chunk
    frames: int


@dataclass(frozen=True)
class Joined:
    """A published output that was joined from chunks. ``warnings``: like those of ``OutputFile``."""

    verified: Verified
    warnings: tuple[str, ...]


Join: TypeAlias = Callable[[Target, Sequence[ChunkFile], PacketIndex], Generator[int, None, Joined]]
"""Joins the chunks of a clip with this index into the target. Yields the number of frames joined, after each chunk.

Raises what ``verify`` and ``OutputFile`` raise, and InternalError when the chunks do not belong together.
"""


def join_with(profile: EncoderProfile) -> Join:
    """A function that joins outputs of this profile."""
    return partial(_join, profile)


def _join(
    profile: EncoderProfile, target: Target, files: Sequence[ChunkFile], index: PacketIndex
) -> Generator[int, None, Joined]:
    done = 0
    output = AtomicFile(target.path, overwrite=target.overwrite)
    try:
        with translating_write_errors(target.path):
            muxer = _Muxer(target, output.path, profile, index)
            try:
                for file in files:
                    muxer.append(file)
                    done += file.frames
                    yield done
                muxer.finish()
            except BaseException:
                with suppress(av.error.FFmpegError, OSError):
                    muxer.close()
                raise
        expectation = expected_output(
            target,
            profile.verification,
            frames=sum(file.frames for file in files),
            seconds=float(muxer.end),
            has_audio=muxer.has_audio,
            samples=tuple(_samples(target, files, profile)) if target.has_alpha else (),
        )
        # copied packets decode to the same alpha
        verified = verify(output.path, replace(expectation, alpha_error=0.0))
        output.publish()
        return Joined(verified, muxer.warnings)
    finally:
        output.discard()


class _Muxer:
    """Writes the output, chunk after chunk.

    Holds the newest packet back, because the duration of the last packet is set at the end.
    """

    def __init__(self, target: Target, path: Path, profile: EncoderProfile, index: PacketIndex) -> None:
        self._target = target
        self._base = target.clip.time_base
        self._profile = profile
        self._index = index
        self._audio = open_audio(target, profile)
        self._stream: VideoStream | None = None
        self._pending: av.Packet[Any] | None = None
        self._delay = 0
        self._last_dts: int | None = None
        self._is_reordered = False
        self._end = 0
        self._container: OutputContainer = av.open(
            str(path.absolute()), "w", format=profile.container, container_options=dict(profile.container_options)
        )
        self._container.metadata.update(RESULT_METADATA)

    @property
    def end(self) -> Fraction:
        """Seconds at which the last frame ends."""
        return self._end * self._base

    @property
    def has_audio(self) -> bool:
        return bool(self._audio and self._audio.packets)

    @property
    def warnings(self) -> tuple[str, ...]:
        return self._audio.warnings if self._audio else ()

    def append(self, file: ChunkFile) -> None:
        """Copy the packets of a chunk, and the audio up to its end."""
        with open_container(file.path, UNLIMITED) as container, translating_read_errors(file.path):
            source = video_stream(container, file.path)
            stream = self._stream or self._add_stream(source, matte_tags(container.metadata))
            if source.codec_context.extradata != stream.codec_context.extradata:
                raise InternalError("The chunks of the output do not belong together.", hint="Start the job again.")
            for packet in packets(container, source):
                if packet.size:
                    self._restamp(packet, file.chunk.start)
                    packet.stream = stream
                    self._push(packet)

    def finish(self) -> None:
        """Write the last packet, the rest of the audio and the container's index."""
        if self._pending is not None:
            extend_last_packet(self._pending, self.end, delay=self._delay)
        self._push(None)
        if self._audio:
            self._audio.advance(self._container, self.end + MAX_AUDIO_TAIL)
        self.close()

    def close(self) -> None:
        """Close all files. May follow ``finish``."""
        if self._audio:
            self._audio.close()
        self._container.close()

    def _add_stream(self, source: VideoStream, tags: Mapping[str, str]) -> VideoStream:
        self._container.metadata.update(tags)
        stream = self._container.add_stream_from_template(source)
        stream.time_base = self._profile.time_base or self._base
        context = stream.codec_context
        context.pix_fmt = self._profile.converter(self._target).pixel_format  # the WebM muxer declares alpha by it
        context.framerate = self._target.clip.rate  # without it WebM loses the durations of longer frames
        self._stream = stream
        if self._audio:
            self._audio.attach(self._container)
        return stream

    def _restamp(self, packet: "av.Packet[Any]", start: int) -> None:
        """Move a packet's timestamps from its chunk to the clip."""
        scale = Fraction(packet.time_base) / self._base
        pts = self._presentation_tick(start + (packet.pts or 0) * scale, rounding=scale / 2)
        dts, duration = pts, round((packet.duration or 0) * scale)
        self._is_reordered = self._is_reordered or packet.dts != packet.pts
        if self._is_reordered:  # then the packets carry durations in decoding order
            dts = start + ceil((packet.dts or 0) * scale)
            duration = self._index.after(pts) - pts
        if self._last_dts is None:
            self._delay = -dts
        else:
            dts = max(dts, self._last_dts + 1)
            pts = max(pts, dts)
        self._last_dts = dts
        self._end = max(self._end, pts + duration)
        packet.time_base = self._base
        packet.pts, packet.dts, packet.duration = pts, dts, duration

    def _presentation_tick(self, tick: Fraction, *, rounding: Fraction) -> int:
        """The source's timestamp that the chunk's container rounded, or ``tick`` if there is none, as after damage."""
        nearest = self._index.nearest(tick)
        return nearest if abs(nearest - tick) <= max(rounding, Fraction(1, 2)) else round(tick)

    def _push(self, packet: "av.Packet[Any] | None") -> None:
        previous, self._pending = self._pending, packet
        if previous is None:
            return
        end = ((previous.pts or 0) + (previous.duration or 0)) * self._base
        self._container.mux(previous)
        if self._audio:
            self._audio.advance(self._container, end)


def _samples(target: Target, files: Sequence[ChunkFile], profile: EncoderProfile) -> list[Sample]:
    """The alpha of the first frame of some chunks, as decoded from their own files."""
    step = ceil(len(files) / _MAX_SAMPLES)
    samples: list[Sample] = []
    for file in files[::step]:
        (alpha,) = profile.verification.inspect(file.path, (Fraction(0),)).alphas
        if alpha is not None:
            samples.append((file.chunk.start * target.clip.time_base, alpha))
    return samples
