"""Chunks of one result put behind each other without encoding anew: packets are copied, the sound goes beside them."""

from collections.abc import Sequence
from contextlib import suppress
from fractions import Fraction
from functools import partial
from math import ceil
from pathlib import Path
from typing import Any

import av
import av.error
from av.container import OutputContainer
from av.video.stream import VideoStream

from alphareel.domain.errors import InternalError
from alphareel.media.atomic_file import AtomicFile
from alphareel.media.chunks import PacketIndex
from alphareel.media.ffmpeg_errors import translating_read_errors, translating_write_errors
from alphareel.media.format import ChunkFile, Join, Joined, Target
from alphareel.media.output_file import ROUNDING
from alphareel.media.result_tag import MARK
from alphareel.media.source import opened, packets, video_stream
from alphareel.media.verify import UNLIMITED, ExpectedOutput, Sample, verify
from alphareel.media.video_file import TAIL, EncoderProfile, audio_of, last_until

_MOST_SAMPLES = 6


def joining(recipe: EncoderProfile) -> Join:
    """How results of this recipe are joined."""
    return partial(_join, recipe)


def _join(recipe: EncoderProfile, target: Target, files: Sequence[ChunkFile], stamps: PacketIndex) -> Joined:
    part = AtomicFile(target.path, overwrite=target.overwrite)
    try:
        with translating_write_errors(target.path):
            line = _Muxer(target, part.path, recipe, stamps)
            try:
                for file in files:
                    line.append(file)
                line.finish()
            except BaseException:
                with suppress(av.error.FFmpegError, OSError):
                    line.close()
                raise
        verified = verify(part.path, _expectation(target, files, recipe, line))
        part.publish()
        return Joined(verified, line.warnings)
    finally:
        part.discard()


class _Muxer:
    """The container being filled, chunk after chunk. The newest packet waits: the last one is told when it ends."""

    def __init__(self, target: Target, path: Path, recipe: EncoderProfile, stamps: PacketIndex) -> None:
        self._target = target
        self._base = target.clip.time_base
        self._recipe = recipe
        self._stamps = stamps
        self._sound = audio_of(target, recipe)
        self._stream: VideoStream | None = None
        self._waiting: av.Packet[Any] | None = None
        self._delay = 0
        self._dts: int | None = None
        self._is_reordered = False
        self._end = 0
        self._container: OutputContainer = av.open(
            str(path.absolute()), "w", format=recipe.container, container_options=dict(recipe.container_options)
        )
        self._container.metadata.update(MARK)

    @property
    def end(self) -> Fraction:
        """When the last picture ends, in seconds."""
        return self._end * self._base

    @property
    def has_audio(self) -> bool:
        return bool(self._sound and self._sound.packets)

    @property
    def warnings(self) -> tuple[str, ...]:
        return self._sound.warnings if self._sound else ()

    def append(self, file: ChunkFile) -> None:
        """Copy the pictures of a chunk, and the sound up to its end."""
        with opened(file.path, UNLIMITED) as container, translating_read_errors(file.path):
            theirs = video_stream(container, file.path)
            stream = self._stream or self._begin(theirs)
            if theirs.codec_context.extradata != stream.codec_context.extradata:
                raise InternalError("The chunks of the result do not belong together.", hint="Start the job again.")
            for packet in packets(container, theirs):
                if packet.size:
                    self._restamp(packet, file.chunk.start)
                    packet.stream = stream
                    self._push(packet)

    def finish(self) -> None:
        """Write what is left, and what makes the file a whole."""
        if self._waiting is not None:
            last_until(self._waiting, self.end, delay=self._delay)
        self._push(None)
        if self._sound:
            self._sound.advance(self._container, self.end + TAIL)
        self.close()

    def close(self) -> None:
        """Release everything; safe after ``finish``."""
        if self._sound:
            self._sound.close()
        self._container.close()

    def _begin(self, theirs: VideoStream) -> VideoStream:
        stream = self._container.add_stream_from_template(theirs)
        stream.time_base = self._recipe.time_base or self._base
        context = stream.codec_context
        context.pix_fmt = self._recipe.painter(self._target).pixel_format  # tells WebM that there is alpha
        context.framerate = self._target.clip.rate  # or WebM forgets how long pictures last that last longer
        self._stream = stream
        if self._sound:
            self._sound.attach(self._container)
        return stream

    def _restamp(self, packet: "av.Packet[Any]", start: int) -> None:
        """Put a packet where its picture is shown in the clip."""
        ticks = Fraction(packet.time_base) / self._base
        pts = self._shown_at(start + (packet.pts or 0) * ticks, rounding=ticks / 2)
        dts, duration = pts, round((packet.duration or 0) * ticks)
        self._is_reordered = self._is_reordered or packet.dts != packet.pts
        if self._is_reordered:  # then the file tells how long packets last in order of decoding
            dts = start + ceil((packet.dts or 0) * ticks)
            duration = self._stamps.after(pts) - pts
        if self._dts is None:
            self._delay = -dts
        else:
            dts = max(dts, self._dts + 1)
            pts = max(pts, dts)
        self._dts = dts
        self._end = max(self._end, pts + duration)
        packet.time_base = self._base
        packet.pts, packet.dts, packet.duration = pts, dts, duration

    def _shown_at(self, tick: Fraction, *, rounding: Fraction) -> int:
        """The stamp of the source that a container rounded; behind damage pictures come at moments of their own."""
        stamp = self._stamps.nearest(tick)
        return stamp if abs(stamp - tick) <= max(rounding, Fraction(1, 2)) else round(tick)

    def _push(self, packet: "av.Packet[Any] | None") -> None:
        ready, self._waiting = self._waiting, packet
        if ready is None:
            return
        reached = ((ready.pts or 0) + (ready.duration or 0)) * self._base
        self._container.mux(ready)
        if self._sound:
            self._sound.advance(self._container, reached)


def _expectation(target: Target, files: Sequence[ChunkFile], recipe: EncoderProfile, line: _Muxer) -> ExpectedOutput:
    proof = recipe.proof
    return ExpectedOutput(
        frames=sum(file.frames for file in files),
        seconds=float(line.end),
        tick=float(proof.frame_tolerance / target.clip.rate) + ROUNDING,
        width=target.width,
        height=target.height * proof.stacked_rows,
        has_alpha=target.has_alpha,
        has_audio=line.has_audio,
        samples=tuple(_samples(target, files, recipe)) if target.has_alpha else (),
        inspect=proof.inspect,
        alpha_error=0.0,
    )


def _samples(target: Target, files: Sequence[ChunkFile], recipe: EncoderProfile) -> "list[Sample]":
    """The alpha of the first picture of some chunks, as their own files have it: copied packets change nothing."""
    step = ceil(len(files) / _MOST_SAMPLES)
    samples: list[Sample] = []
    for file in files[::step]:
        (alpha,) = recipe.proof.inspect(file.path, (Fraction(0),)).alphas
        if alpha is not None:
            samples.append((file.chunk.start * target.clip.time_base, alpha))
    return samples
