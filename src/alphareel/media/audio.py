"""Includes the source's audio tracks in an output: copied where the container supports the codec, else encoded."""

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
from alphareel.media.source import open_container, packets

_RATE = 48000
_MAX_TRACKS = 16  # each keeps the source open
# Samples. Timestamps in milliseconds never match samples exactly; only larger differences are gaps or overlaps. At the
# start there is no audio to go on from, and a shift would stay for the whole track.
_MAX_DRIFT, _MAX_START_DRIFT = _RATE // 100, _RATE // 1000
# Seconds of audio before time zero that are kept, hidden by an edit list: decoders need it to start up.
_PREROLL = Fraction(1, 10)
_PCM_BYTES = {"pcm_s16le": 2, "pcm_s24le": 3}  # of a sample; silence is zero
_ROUNDING = Fraction(2, 1000)  # seconds; both timestamps of a packet may be rounded to milliseconds


@dataclass(frozen=True)
class AudioProfile:
    """The audio of a format. ``copied``: codecs that are copied; others become ``codec`` in ``sample_format``.

    ``frame_size``: samples per encoder frame, 0 for any number. ``bit_rate``: bits per second, 0 for the codec's own.
    ``has_edit_list``: the container can hide audio before time zero. ``fills_gaps``: the container stores PCM without
    timestamps, so that gaps in it must be filled with silence.
    """

    copied: frozenset[str]
    codec: str
    sample_format: str
    frame_size: int = 0
    bit_rate: int = 128_000
    has_edit_list: bool = False
    fills_gaps: bool = False


class AudioTracks:
    """All audio tracks of ``source``, at most 16, the default track first. See ``AudioTrack`` for the arguments.

    ``tracks``: how many the source has.
    """

    def __init__(
        self, *, source: Path, start: Fraction, seconds: float | None, profile: AudioProfile, tracks: int
    ) -> None:
        self._tracks = [
            AudioTrack(source=source, start=start, seconds=seconds, profile=profile, track=n)
            for n in range(min(tracks, _MAX_TRACKS))
        ]
        dropped = f"Of {tracks} audio tracks the first {_MAX_TRACKS} were kept."
        self._dropped = (dropped,) if tracks > _MAX_TRACKS else ()

    @property
    def warnings(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys([*self._dropped, *(text for track in self._tracks for text in track.warnings)]))

    @property
    def packets(self) -> int:
        return sum(track.packets for track in self._tracks)

    def attach(self, container: OutputContainer) -> None:
        for track in self._tracks:
            track.attach(container)

    def advance(self, container: OutputContainer, moment: Fraction) -> None:
        for track in self._tracks:
            track.advance(container, moment)

    def close(self) -> None:
        for track in self._tracks:
            track.close()


class AudioTrack:
    """One audio track of ``source``, from ``start`` (seconds on its clock, which become zero), for at most ``seconds``.

    ``track``: index in ``audio_streams``. ``packets``: number of packets written. Damaged audio ends early and adds a
    sentence to ``warnings``; it never fails the output.
    """

    def __init__(
        self, *, source: Path, start: Fraction, seconds: float | None, profile: AudioProfile, track: int = 0
    ) -> None:
        self.warnings: tuple[str, ...] = ()
        self.packets = 0
        self._start = start
        self._end = None if seconds is None else Fraction(seconds)
        self._profile = profile
        self._stack = ExitStack()
        self._pending: deque[av.Packet[Any]] = deque()
        self._packets: Iterator[av.Packet[Any]] = iter(())
        self._source = source
        self._track = track

    def attach(self, container: OutputContainer) -> None:
        """Add an audio stream to the container, before anything is written. Adds none if the source has no audio."""
        with self._keep_on_damage():
            source = self._stack.enter_context(open_container(self._source, Limits(max_bytes=0)))
            streams = audio_streams(source)
            if self._track >= len(streams):
                return
            stream = streams[self._track]
            copies = stream.codec_context.codec.canonical_name in self._profile.copied
            self._packets = self._copy(source, stream, container) if copies else self._encode(source, stream, container)
            self._pending.extend(islice(self._packets, 1))

    def advance(self, container: OutputContainer, moment: Fraction) -> None:
        """Write the audio before ``moment`` (seconds from zero)."""
        while self._pending and _moment(self._pending[0]) < moment:
            packet = self._pending.popleft()
            with self._keep_on_damage():
                self._pending.extend(islice(self._packets, 1))
            try:
                container.mux(packet)
            except (av.error.InvalidDataError, av.error.ArgumentError) as error:
                # the muxer parses copied packets; other errors, such as a full disk, are not the audio's fault
                self._give_up(error)
            else:
                self.packets += 1

    def close(self) -> None:
        """Close the source. May be called twice."""
        self._packets = iter(())
        self._pending.clear()
        self._stack.close()

    @contextmanager
    def _keep_on_damage(self) -> Iterator[None]:
        try:
            yield
        except (av.error.FFmpegError, ValueError, AlphareelError) as error:
            self._give_up(error)

    def _give_up(self, error: Exception) -> None:
        self._packets = iter(())
        self._pending.clear()
        reason = error.message if isinstance(error, AlphareelError) else getattr(error, "strerror", None) or str(error)
        self.warnings = (f"The audio of the video is damaged and was kept only in part: {reason.rstrip('.')}.",)

    def _copy(self, source: InputContainer, stream: AudioStream, to: OutputContainer) -> "Iterator[av.Packet[Any]]":
        if not stream.codec_context.sample_rate or not stream.codec_context.channels:
            raise BadVideo("Its header states neither a sample rate nor channels.")  # no muxer accepts it
        offset = round(self._start / _time_base(stream))
        out: AudioStream | None = None
        last = None
        end: Fraction | None = None  # seconds
        fills_gaps = self._profile.fills_gaps and stream.codec_context.name in _PCM_BYTES
        for packet in packets(source, stream):
            if packet.pts is None or not packet.size:
                continue
            packet.pts = packet.dts = packet.pts - offset
            if self._is_after_end(_moment(packet)):
                return
            if not self._is_included(packet) or (last is not None and packet.pts <= last):
                continue
            if out is None:
                out = to.add_stream_from_template(stream)
                self._label(out, stream)
            if fills_gaps and end is not None:
                yield from _silent_packets(stream, out, end, _moment(packet))
            last = packet.pts
            end = _moment(packet) + (packet.duration or 0) * Fraction(packet.time_base)
            packet.stream = out
            yield packet

    def _encode(self, source: InputContainer, stream: AudioStream, to: OutputContainer) -> "Iterator[av.Packet[Any]]":
        layout = "mono" if stream.codec_context.channels == 1 else "stereo"
        out: AudioStream | None = None
        for frame in self._samples(source, stream, layout):
            if out is None:
                out = cast(AudioStream, to.add_stream(self._profile.codec, _RATE, layout=layout))
                self._label(out, stream)
                out.codec_context.format = av.AudioFormat(self._profile.sample_format)
                if self._profile.bit_rate:
                    out.codec_context.bit_rate = self._profile.bit_rate
            yield from out.encode(frame)
        if out is not None:
            yield from out.encode(None)

    def _samples(self, source: InputContainer, stream: AudioStream, layout: str) -> Iterator[av.AudioFrame]:
        """Audio frames in the encoder's format, with increasing timestamps from zero."""
        resample = _Resampler(self._profile, layout)
        end, has_begun = 0, False
        for decoded in _decode(source, stream):
            for frame in resample(decoded):
                if frame.pts is None:
                    continue
                start = round((frame.pts * Fraction(frame.time_base or 0) - self._start) * _RATE)
                if self._is_after_end(Fraction(start, _RATE)):
                    return
                if abs(start - end) <= _MAX_DRIFT if has_begun else 0 <= start <= _MAX_START_DRIFT:
                    start = end
                rest = _skip_samples(frame, end - start)
                if rest is None:
                    continue
                if has_begun and self._profile.fills_gaps:
                    yield from _silent_frames(rest, end, start)
                rest.pts, rest.time_base = max(start, end), Fraction(1, _RATE)
                end, has_begun = rest.pts + rest.samples, True
                yield rest

    def _is_included(self, packet: "av.Packet[Any]") -> bool:
        """Whether to copy a packet: from zero on, or as preroll."""
        moment = _moment(packet)
        if self._profile.has_edit_list:
            return moment >= -_PREROLL
        # at most one packet before zero: for more, the muxer would shift the video
        return moment + (packet.duration or 0) * Fraction(packet.time_base) >= -_ROUNDING

    def _label(self, out: AudioStream, source: AudioStream) -> None:
        """Copy the labels that players show in their menus. The first track is the default one."""
        metadata = source.metadata
        title = metadata.get("title") or metadata.get("handler_name")
        # Matroska stores a track's title, MP4 and MOV its handler name
        labels = {"language": metadata.get("language"), "title": title, "handler_name": title}
        out.metadata.update({name: text for name, text in labels.items() if text})
        out.disposition = av.stream.Disposition.default if self._track == 0 else av.stream.Disposition(0)

    def _is_after_end(self, moment: Fraction) -> bool:
        return self._end is not None and moment >= self._end


class _Resampler:
    """Resamples to the encoder's rate, layout and format. Starts over when the stream changes its own."""

    def __init__(self, profile: AudioProfile, layout: str) -> None:
        self._profile = profile
        self._layout = layout
        self._resampler = self._new_resampler()

    def __call__(self, frame: av.AudioFrame | None) -> list[av.AudioFrame]:
        try:
            return self._resampler.resample(frame)
        except ValueError:
            flushed = self._resampler.resample(None)
            self._resampler = self._new_resampler()
            return flushed + self._resampler.resample(frame)

    def _new_resampler(self) -> AudioResampler:
        profile = self._profile
        return AudioResampler(profile.sample_format, self._layout, _RATE, profile.frame_size or None)


def _decode(source: InputContainer, stream: AudioStream) -> Iterator[av.AudioFrame | None]:
    """Decoded frames, then None. Skips packets that cannot be decoded."""
    for packet in packets(source, stream):
        try:
            yield from stream.codec_context.decode(packet)
        except av.error.InvalidDataError:
            continue
    yield None


def _skip_samples(frame: av.AudioFrame, count: int) -> av.AudioFrame | None:
    """The frame without its first ``count`` samples; None when nothing is left."""
    if count <= 0:
        return frame
    if count >= frame.samples:
        return None
    skip = count if frame.format.is_planar else count * frame.layout.nb_channels
    samples: Any = np.ascontiguousarray(frame.to_ndarray()[:, skip:])
    result = av.AudioFrame.from_ndarray(samples, format=frame.format.name, layout=frame.layout.name)
    result.sample_rate, result.time_base = frame.sample_rate, frame.time_base
    return result


def _silent_frames(like: av.AudioFrame, start: int, end: int) -> Iterator[av.AudioFrame]:
    """Silence from sample ``start`` to ``end`` in the format of ``like``, in frames of at most a second."""
    channels, dtype = like.layout.nb_channels, like.to_ndarray().dtype
    for position in range(start, end, _RATE):
        count = min(_RATE, end - position)
        samples: Any = np.zeros((channels, count) if like.format.is_planar else (1, channels * count), dtype)
        frame = av.AudioFrame.from_ndarray(samples, format=like.format.name, layout=like.layout.name)
        frame.sample_rate, frame.pts, frame.time_base = like.sample_rate, position, Fraction(1, _RATE)
        yield frame


def _silent_packets(source: AudioStream, to: AudioStream, start: Fraction, end: Fraction) -> "Iterator[av.Packet[Any]]":
    """Silence from ``start`` to ``end`` (seconds) in packets of PCM of at most a second; none for rounding errors."""
    context, base = source.codec_context, _time_base(source)
    rate, missing = context.sample_rate, round((end - start) * context.sample_rate)
    if missing * _RATE <= _MAX_DRIFT * rate:
        return
    for position in range(0, missing, rate):
        samples = min(rate, missing - position)
        packet: av.Packet[Any] = av.Packet(bytes(samples * context.channels * _PCM_BYTES[context.name]))
        packet.pts = packet.dts = round((start + Fraction(position, rate)) / base)
        packet.duration, packet.time_base = round(Fraction(samples, rate) / base), base
        packet.stream = to
        yield packet


def _moment(packet: "av.Packet[Any]") -> Fraction:
    """Seconds at which the packet starts."""
    return (packet.pts or 0) * Fraction(packet.time_base)


def _time_base(stream: AudioStream) -> Fraction:
    return Fraction(stream.time_base or Fraction(1, _RATE))
