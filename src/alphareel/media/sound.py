"""A track of the source's sound, taken along beside the picture: copied where the container takes it, else encoded."""

from collections import deque
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from fractions import Fraction
from itertools import islice
from pathlib import Path
from typing import Any, cast

import av
import av.error
import numpy as np
from av.audio.resampler import AudioResampler
from av.audio.stream import AudioStream
from av.container import InputContainer, OutputContainer

from alphareel.domain.clip import Limits
from alphareel.domain.errors import AlphareelError, BadVideo
from alphareel.media.probe import audio_streams
from alphareel.media.source import opened, packets

_RATE = 48000
_MOST_TRACKS = 16  # each holds the source open
# Timestamps in thousandths of a second never fit the samples exactly; only what differs by more is a gap or overlap.
_SLIP = _RATE // 100
# Sound from before time zero that goes along, hidden, where the container can hide it: decoders warm up on it.
_WARM_UP = Fraction(1, 10)
_ROUNDING = Fraction(2, 1000)  # of timestamps in thousandths, on both sides


@dataclass(frozen=True)
class SoundRules:
    """What a container wants. ``copied``: codecs taken as they are; else ``codec`` in ``sample_format``.

    ``piece``: samples that the encoder takes at a time, 0 for any number. ``hides``: its edit lists hide what sounds
    before zero.
    """

    copied: frozenset[str]
    codec: str
    sample_format: str
    piece: int = 0
    bit_rate: int = 128_000
    hides: bool = False


class Sounds:
    """Every sound track of ``source``, at most 16: the one that a player would play first, the others as they come.

    The arguments and the rest are those of ``Sound``. ``packets``: how many were written, of all tracks.
    """

    def __init__(self, *, source: Path, start: Fraction, seconds: float | None, rules: SoundRules, tracks: int) -> None:
        self._each = [
            Sound(source=source, start=start, seconds=seconds, rules=rules, track=n)
            for n in range(min(tracks, _MOST_TRACKS))
        ]
        dropped = f"Of {tracks} sound tracks the first {_MOST_TRACKS} were kept."
        self._dropped = (dropped,) if tracks > _MOST_TRACKS else ()

    @property
    def warnings(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys([*self._dropped, *(text for sound in self._each for text in sound.warnings)]))

    @property
    def packets(self) -> int:
        return sum(sound.packets for sound in self._each)

    def attach(self, container: OutputContainer) -> None:
        for sound in self._each:
            sound.attach(container)

    def advance(self, container: OutputContainer, moment: Fraction) -> None:
        for sound in self._each:
            sound.advance(container, moment)

    def close(self) -> None:
        for sound in self._each:
            sound.close()


class Sound:
    """One track of ``source`` from ``start`` seconds on its clock, which become zero, for ``seconds`` at most.

    ``track`` counts in the order of ``audio_streams``.
    Damaged sound ends early and leaves a sentence in ``warnings``; it never fails the picture. ``packets``: how many
    were written.
    """

    def __init__(
        self, *, source: Path, start: Fraction, seconds: float | None, rules: SoundRules, track: int = 0
    ) -> None:
        self.warnings: tuple[str, ...] = ()
        self.packets = 0
        self._start = start
        self._end = None if seconds is None else Fraction(seconds)
        self._rules = rules
        self._opened = ExitStack()
        self._waiting: deque[av.Packet[Any]] = deque()
        self._made: Iterator[av.Packet[Any]] = iter(())
        self._source = source
        self._track = track

    def attach(self, container: OutputContainer) -> None:
        """Give the container a stream for the sound, before anything is written; none if there is no sound."""
        with self._forgiving():
            source = self._opened.enter_context(opened(self._source, Limits(max_bytes=0)))
            streams = audio_streams(source)
            if self._track >= len(streams):
                return
            stream = streams[self._track]
            copies = stream.codec_context.codec.canonical_name in self._rules.copied
            self._made = self._copied(source, stream, container) if copies else self._encoded(source, stream, container)
            self._waiting.extend(islice(self._made, 1))

    def advance(self, container: OutputContainer, moment: Fraction) -> None:
        """Write what sounds before ``moment`` (seconds from zero)."""
        while self._waiting and _moment(self._waiting[0]) < moment:
            packet = self._waiting.popleft()
            with self._forgiving():
                self._waiting.extend(islice(self._made, 1))
            try:
                container.mux(packet)
            except (av.error.InvalidDataError, av.error.ArgumentError) as error:
                # the muxer looks into copied packets; anything else, like a full disk, is not the sound's fault
                self._give_up(error)
            else:
                self.packets += 1

    def close(self) -> None:
        """Release the source; safe twice."""
        self._made = iter(())
        self._waiting.clear()
        self._opened.close()

    @contextmanager
    def _forgiving(self) -> Iterator[None]:
        try:
            yield
        except (av.error.FFmpegError, ValueError, AlphareelError) as error:
            self._give_up(error)

    def _give_up(self, error: Exception) -> None:
        self._made = iter(())
        self._waiting.clear()
        reason = error.message if isinstance(error, AlphareelError) else getattr(error, "strerror", None) or str(error)
        self.warnings = (f"The sound of the video is damaged and was kept only in part: {reason.rstrip('.')}.",)

    def _copied(self, source: InputContainer, stream: AudioStream, to: OutputContainer) -> "Iterator[av.Packet[Any]]":
        if not stream.codec_context.sample_rate or not stream.codec_context.channels:
            raise BadVideo("Its header tells neither its rate nor its channels.")  # and no muxer takes it
        offset = round(self._start / _tick(stream))
        out: AudioStream | None = None
        last = None
        for packet in packets(source, stream):
            if packet.pts is None or not packet.size:
                continue
            packet.pts = packet.dts = packet.pts - offset
            if self._is_over(_moment(packet)):
                return
            if not self._belongs(packet) or (last is not None and packet.pts <= last):
                continue
            if out is None:
                out = to.add_stream_from_template(stream)
                self._label(out, stream)
            last = packet.pts
            packet.stream = out
            yield packet

    def _encoded(self, source: InputContainer, stream: AudioStream, to: OutputContainer) -> "Iterator[av.Packet[Any]]":
        layout = "mono" if stream.codec_context.channels == 1 else "stereo"
        out: AudioStream | None = None
        for frame in self._pieces(source, stream, layout):
            if out is None:
                out = cast(AudioStream, to.add_stream(self._rules.codec, _RATE, layout=layout))
                self._label(out, stream)
                out.codec_context.format = av.AudioFormat(self._rules.sample_format)
                if self._rules.bit_rate:
                    out.codec_context.bit_rate = self._rules.bit_rate
            yield from out.encode(frame)
        if out is not None:
            yield from out.encode(None)

    def _pieces(self, source: InputContainer, stream: AudioStream, layout: str) -> Iterator[av.AudioFrame]:
        """Samples as the encoder wants them, from zero, timestamps rising."""
        resample = _Resampler(self._rules, layout)
        reached = 0
        for decoded in _decoded(source, stream):
            for frame in resample(decoded):
                if frame.pts is None:
                    continue
                begins = round((frame.pts * Fraction(frame.time_base or 0) - self._start) * _RATE)
                if self._is_over(Fraction(begins, _RATE)):
                    return
                if abs(begins - reached) <= _SLIP:
                    begins = reached
                rest = _cut(frame, reached - begins)
                if rest is not None:
                    rest.pts, rest.time_base = max(begins, reached), Fraction(1, _RATE)
                    reached = rest.pts + rest.samples
                    yield rest

    def _belongs(self, packet: "av.Packet[Any]") -> bool:
        """Whether a packet is to be copied: from zero on, or as the warm-up of what sounds there."""
        moment = _moment(packet)
        if self._rules.hides:
            return moment >= -_WARM_UP
        # one packet before zero at most: the muxer would move the picture by more
        return moment + (packet.duration or 0) * Fraction(packet.time_base) >= -_ROUNDING

    def _label(self, out: AudioStream, source: AudioStream) -> None:
        """What tells tracks apart in a player's menu; the first is the one to play."""
        told = source.metadata
        title = told.get("title") or told.get("handler_name")
        # Matroska keeps a track's title, MP4 and MOV its handler's name
        labels = {"language": told.get("language"), "title": title, "handler_name": title}
        out.metadata.update({name: text for name, text in labels.items() if text})
        out.disposition = av.stream.Disposition.default if self._track == 0 else av.stream.Disposition(0)

    def _is_over(self, moment: Fraction) -> bool:
        return self._end is not None and moment >= self._end


class _Resampler:
    """To the encoder's rate, layout and format; begins anew when a stream changes its own on the way."""

    def __init__(self, rules: SoundRules, layout: str) -> None:
        self._rules = rules
        self._layout = layout
        self._inner = self._fresh()

    def __call__(self, frame: av.AudioFrame | None) -> list[av.AudioFrame]:
        try:
            return self._inner.resample(frame)
        except ValueError:
            rest = self._inner.resample(None)
            self._inner = self._fresh()
            return rest + self._inner.resample(frame)

    def _fresh(self) -> AudioResampler:
        rules = self._rules
        return AudioResampler(rules.sample_format, self._layout, _RATE, rules.piece or None)


def _decoded(source: InputContainer, stream: AudioStream) -> Iterator[av.AudioFrame | None]:
    """Decoded frames, then None; what cannot be decoded is passed over."""
    for packet in packets(source, stream):
        try:
            yield from stream.codec_context.decode(packet)
        except av.error.InvalidDataError:
            continue
    yield None


def _cut(frame: av.AudioFrame, count: int) -> av.AudioFrame | None:
    """The frame without its first ``count`` samples; the frame itself for none, None when nothing is left."""
    if count <= 0:
        return frame
    if count >= frame.samples:
        return None
    skip = count if frame.format.is_planar else count * frame.layout.nb_channels
    samples: Any = np.ascontiguousarray(frame.to_ndarray()[:, skip:])
    made = av.AudioFrame.from_ndarray(samples, format=frame.format.name, layout=frame.layout.name)
    made.sample_rate, made.time_base = frame.sample_rate, frame.time_base
    return made


def _moment(packet: "av.Packet[Any]") -> Fraction:
    return (packet.pts or 0) * Fraction(packet.time_base)


def _tick(stream: AudioStream) -> Fraction:
    return Fraction(stream.time_base or Fraction(1, _RATE))
