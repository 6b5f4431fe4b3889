"""Replaces frames in a finished output: their packets come from new files, all others are copied, with the audio."""

import shutil
from bisect import bisect_left
from collections.abc import Generator, Iterable, Sequence
from contextlib import ExitStack, closing, suppress
from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import zip_longest
from math import ceil
from pathlib import Path
from typing import Any, Protocol, TypeVar

import av
import av.error
from av.audio.stream import AudioStream
from av.container import InputContainer, OutputContainer
from av.video.stream import VideoStream

from alphareel.domain.errors import BadVideo, InternalError
from alphareel.media.atomic_file import AtomicFile
from alphareel.media.attachments import add_attachments
from alphareel.media.ffmpeg_errors import translating_read_errors, translating_write_errors
from alphareel.media.matte_facts import matte_tags
from alphareel.media.output_file import Target, expected_output
from alphareel.media.result_tag import RESULT_METADATA
from alphareel.media.source import open_container, packets, video_stream
from alphareel.media.verify import UNLIMITED, ExpectedOutput, Verified, verify
from alphareel.media.video_file import EncoderProfile

T = TypeVar("T")

_MAX_SAMPLES = 4  # of the frames that are new, and of those that are copied
_LABELS = ("language", "title", "handler_name")


@dataclass(frozen=True)
class FrameRange:
    """Frames by their number in the order in which they are shown, without ``end``."""

    first: int
    end: int

    @property
    def frames(self) -> int:
        return self.end - self.first


@dataclass(frozen=True)
class Part:
    """A silent output of the same format, whose frames take the place of a range in a finished one."""

    path: Path
    place: FrameRange


class Splicer(Protocol):
    """Replaces frames in the finished outputs of one format."""

    def groups(self, path: Path) -> tuple[int, ...]:
        """The first frame of each group that can be replaced by itself, in order, then the number of frames.

        Raises BadVideo when the file has no such groups.
        """

    def splice(self, target: Target, previous: Path, parts: Sequence[Part], *, seconds: float) -> Verified:
        """Write ``previous`` with the parts in their places, which are whole groups in order, and verify it.

        Without parts it is a copy of the file. ``seconds``: how long it lasts. Raises what ``verify`` and
        ``OutputFile`` raise, and InternalError when the files do not belong together.
        """


def touched_groups(starts: Sequence[int], frames: Iterable[int]) -> list[FrameRange]:
    """The groups that hold ``frames``; adjacent ones of a single frame as one. ``starts``: of ``Splicer.groups``."""
    found: list[FrameRange] = []
    for position in sorted({bisect_left(starts, frame + 1) - 1 for frame in frames}):
        group = FrameRange(starts[position], starts[position + 1])
        if found and group.frames == 1 and found[-1].end == group.first and starts[position - 1] == group.first - 1:
            group = FrameRange(found.pop().first, group.end)
        found.append(group)
    return found


def different_frames(one: Path, other: Path) -> list[int]:
    """The numbers of the frames whose packets differ in two files in which each frame is encoded on its own.

    Raises BadVideo when they have different numbers of frames.
    """
    with ExitStack() as stack:
        streams = [stack.enter_context(closing(_video_packets(path))) for path in (one, other)]
        found = []
        for number, (a, b) in enumerate(zip_longest(*streams)):
            if a is None or b is None:
                raise BadVideo("The two files have different numbers of frames.")
            if bytes(a) != bytes(b):
                found.append(number)
        return found


def _video_packets(path: Path) -> "Generator[av.Packet[Any], None, None]":
    with open_container(path, UNLIMITED) as container, translating_read_errors(path):
        for packet in packets(container, video_stream(container, path)):
            if packet.size:
                yield packet


@dataclass(frozen=True)
class _Timeline:
    """When the frames of a file are shown. ``pts``: sorted. ``keys``: numbers of the key frames."""

    time_base: Fraction
    pts: tuple[int, ...]
    keys: tuple[int, ...]

    def moment(self, frame: int) -> Fraction:
        """Seconds from the first frame."""
        return (self.pts[frame] - self.pts[0]) * self.time_base


def _read_timeline(path: Path) -> _Timeline:
    """Raises BadVideo unless each key frame begins a group: all that is decoded after it is shown after it."""
    shown: list[int] = []
    keys: list[int] = []
    base, latest = Fraction(1), -1
    with closing(_video_packets(path)) as found:
        for packet in found:
            base = Fraction(packet.time_base)
            if packet.pts is None:
                raise BadVideo(f"{path.name} has frames without timestamps.")
            if packet.is_keyframe:
                keys.append(len(shown))
                latest = max(shown, default=packet.pts - 1)
            if packet.pts <= latest:
                raise BadVideo(f"{path.name} has frames that refer to a later group.")
            shown.append(packet.pts)
    if not keys or keys[0] != 0 or len(set(shown)) < len(shown):
        raise BadVideo(f"{path.name} does not begin with a key frame, or repeats timestamps.")
    return _Timeline(base, tuple(sorted(shown)), tuple(keys))


@dataclass(frozen=True)
class VideoSplicer:
    """A Splicer for files that ``VideoEncoder`` wrote with this profile."""

    profile: EncoderProfile

    def groups(self, path: Path) -> tuple[int, ...]:
        timeline = _read_timeline(path)
        return (*timeline.keys, len(timeline.pts))

    def splice(self, target: Target, previous: Path, parts: Sequence[Part], *, seconds: float) -> Verified:
        timeline = _read_timeline(previous)
        output = AtomicFile(target.path, overwrite=target.overwrite)
        try:
            with translating_write_errors(target.path):
                if parts:
                    self._write(target, output.path, previous, timeline, parts)
                else:
                    shutil.copyfile(previous, output.path)
            verified = verify(output.path, self._expectation(target, previous, timeline, parts, seconds=seconds))
            output.publish()
            return verified
        finally:
            output.discard()

    def _write(self, target: Target, path: Path, previous: Path, timeline: _Timeline, parts: Sequence[Part]) -> None:
        profile = self.profile
        container: OutputContainer = av.open(
            str(path.absolute()), "w", format=profile.container, container_options=dict(profile.container_options)
        )
        try:
            with open_container(previous, UNLIMITED) as source, translating_read_errors(previous):
                self._copy(target, container, source, timeline, parts)
            container.close()
        except BaseException:
            with suppress(av.error.FFmpegError, OSError):
                container.close()
            raise

    def _copy(
        self,
        target: Target,
        container: OutputContainer,
        source: InputContainer,
        timeline: _Timeline,
        parts: Sequence[Part],
    ) -> None:
        """Copy all packets in their order. Those of replaced frames keep their place and time alone."""
        container.metadata.update({**RESULT_METADATA, **matte_tags(source.metadata)})
        video = source.streams.video[0]
        streams: dict[int, VideoStream | AudioStream] = {video.index: self._add_video(target, container, video)}
        streams |= {stream.index: _add_audio(container, stream) for stream in source.streams.audio}
        add_attachments(container, target.attachments)
        with ExitStack() as stack:
            described = video.codec_context.extradata
            new = {part.place.first: stack.enter_context(closing(_new_packets(part, described))) for part in parts}
            ends = {part.place.end for part in parts}
            current: Generator[tuple[av.Packet[Any], int], None, None] | None = None
            first = number = 0
            for packet in packets(source, video, *source.streams.audio):
                if not packet.size:
                    continue
                copied: av.Packet[Any] = packet
                index = packet.stream.index
                if index == video.index:
                    if number in ends:
                        current = None
                    if number in new:
                        current, first = new[number], number
                    if current is not None:
                        copied, rank = next(current)
                        copied.time_base = packet.time_base
                        copied.pts, copied.dts = timeline.pts[first + rank], packet.dts
                        copied.duration = packet.duration
                    number += 1
                copied.stream = streams[index]
                container.mux(copied)

    def _add_video(self, target: Target, container: OutputContainer, source: VideoStream) -> VideoStream:
        stream = container.add_stream_from_template(source)
        stream.time_base = source.time_base
        context = stream.codec_context
        context.pix_fmt = self.profile.converter(target).pixel_format  # the WebM muxer declares alpha by it
        context.framerate = target.clip.rate  # without it WebM loses the durations of longer frames
        return stream

    def _expectation(
        self, target: Target, previous: Path, timeline: _Timeline, parts: Sequence[Part], *, seconds: float
    ) -> ExpectedOutput:
        """What the file must hold: the frames and the audio of ``previous``, and exactly the alpha of both."""
        verification = self.profile.verification
        copied = [key for key in timeline.keys if not any(p.place.first <= key < p.place.end for p in parts)]
        moments = tuple(timeline.moment(key) for key in _evenly(copied)) if target.has_alpha else ()
        inspection = verification.inspect(previous, moments)
        samples = [*zip(moments, inspection.alphas, strict=True)]
        for part in _evenly(parts) if target.has_alpha else ():
            (alpha,) = verification.inspect(part.path, (Fraction(0),)).alphas
            samples.append((timeline.moment(part.place.first), alpha))
        expectation = expected_output(
            target,
            verification,
            frames=inspection.frames,
            seconds=seconds,
            has_audio=inspection.has_audio,
            samples=tuple((moment, alpha) for moment, alpha in samples if alpha is not None),
        )
        return replace(expectation, alpha_error=0.0)  # copied packets decode to the same alpha


def _evenly(items: Sequence[T]) -> Sequence[T]:
    """At most ``_MAX_SAMPLES`` of them."""
    return items[:: max(1, ceil(len(items) / _MAX_SAMPLES))]


def _new_packets(part: Part, extradata: bytes | None) -> "Generator[tuple[av.Packet[Any], int], None, None]":
    """The packets of a part as they are decoded, and how many of its frames are shown before each.

    Raises InternalError when there are not as many as the part replaces, or they need another decoder.
    """
    timeline = _read_timeline(part.path)
    ranks = {pts: rank for rank, pts in enumerate(timeline.pts)}
    with open_container(part.path, UNLIMITED) as container, translating_read_errors(part.path):
        stream = video_stream(container, part.path)
        if stream.codec_context.extradata != extradata or len(ranks) != part.place.frames:
            raise InternalError("New frames of the output do not belong to the others.", hint="Run it again.")
        for packet in packets(container, stream):
            if packet.size:
                yield packet, ranks[packet.pts or 0]


def _add_audio(container: OutputContainer, source: AudioStream) -> AudioStream:
    stream = container.add_stream_from_template(source)
    stream.metadata.update({name: source.metadata[name] for name in _LABELS if name in source.metadata})
    stream.disposition = source.disposition
    return stream
