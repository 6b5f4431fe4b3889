"""The one encode and flush loop: frames and the source's sound into a container that FFmpeg writes."""

from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Protocol, cast

import av
import av.error
from av.container import OutputContainer
from av.video.stream import VideoStream

from alphareel.domain.clip import Color
from alphareel.domain.options import Quality
from alphareel.imaging.frame import Frame, Plane
from alphareel.media.audio import AudioProfile, AudioTracks
from alphareel.media.av_frame import flat_planes, to_av_frame
from alphareel.media.format import Target
from alphareel.media.output_file import OutputFile, VerificationProfile
from alphareel.media.result_tag import MARK
from alphareel.media.verify import inspect_video

LIMITED, FULL = 1, 2  # ranges in FFmpeg's numbers
TAIL = 1  # seconds that sound may go on after the last frame


AS_A_PLAYER_SEES_IT = VerificationProfile(inspect_video, frame_tolerance=1)


class FrameConverter(Protocol):
    """Makes of planes and alpha what an encoder takes. ``color``: the tags of what it makes."""

    @property
    def pixel_format(self) -> str: ...

    @property
    def color(self) -> Color: ...

    def paint(self, frame: Frame, alpha: Plane | None) -> av.VideoFrame:
        """The picture for the encoder; timestamps and tags are set by the caller."""


@dataclass(frozen=True)
class EncoderProfile:
    """How a format is encoded: FFmpeg's names and options, and the painter for a target.

    ``tag``: the codec's four letters where players want others.
    ``by_quality``: options that replace others for a quality. ``time_base``: the container's ticks where it has only
    one kind, else the clip's. ``proof``: what the finished file can be held to.
    """

    container: str
    codec: str
    painter: Callable[[Target], FrameConverter]
    options: Mapping[str, str]
    tag: str = ""
    by_quality: Mapping[Quality, Mapping[str, str]] = field(default_factory=dict)
    container_options: Mapping[str, str] = field(default_factory=dict)
    sound: AudioProfile | None = None
    threads: int = 2
    time_base: Fraction | None = None
    proof: VerificationProfile = AS_A_PLAYER_SEES_IT


@dataclass(frozen=True)
class Planar:
    """The painter of encoders that take our planes as they are: yuv420p, with alpha yuva420p."""

    color: Color
    has_alpha: bool

    @property
    def pixel_format(self) -> str:
        return "yuva420p" if self.has_alpha else "yuv420p"

    def paint(self, frame: Frame, alpha: Plane | None) -> av.VideoFrame:
        """The frame's own planes; what is invisible becomes black."""
        if alpha is None:
            return to_av_frame((frame.y, frame.u, frame.v))
        return to_av_frame(flat_planes(frame, alpha, self.color), alpha)


def video_file(target: Target, recipe: EncoderProfile) -> OutputFile:
    """A Sink that writes a container by a recipe."""
    return OutputFile(target, lambda target, path: _Container(target, path, recipe), recipe.proof)


class _Container:
    """An Encoding by FFmpeg: one stream of pictures and at most one of sound."""

    def __init__(self, target: Target, path: Path, recipe: EncoderProfile) -> None:
        self.sound = audio_of(target, recipe)
        self._target = target
        self._recipe = recipe
        self._painter = recipe.painter(target)
        self._delay: int | None = None  # ticks by which the first packet is decoded before it is shown
        self._container: OutputContainer = av.open(
            str(path.absolute()), "w", format=recipe.container, container_options=dict(recipe.container_options)
        )
        self._container.metadata.update(MARK)
        try:
            self._stream = self._add_picture(self._container)
            if self.sound:
                self.sound.attach(self._container)
        except BaseException:
            with suppress(av.error.FFmpegError, OSError):
                self.drop()
            raise

    def add(self, frame: Frame, alpha: Plane | None, duration: int) -> None:
        picture = self._painter.paint(frame, alpha)
        picture.pts, picture.duration, picture.time_base = frame.pts, duration, self._target.clip.time_base
        tag(picture, self._painter.color)
        self._mux(self._stream.encode(picture))
        if self.sound:
            self.sound.advance(self._container, (frame.pts + duration) * self._target.clip.time_base)

    def end(self, tick: int) -> None:
        packets = self._stream.encode(None)
        if packets:
            last_until(packets[-1], tick * self._target.clip.time_base, delay=self._delay)
        self._mux(packets)
        if self.sound:
            self.sound.advance(self._container, tick * self._target.clip.time_base + TAIL)
            self.sound.close()
        self._container.close()

    def drop(self) -> None:
        if self.sound:
            self.sound.close()
        # closing writes the trailer, which fails again where writing failed
        self._container.close()

    def _mux(self, packets: "list[av.Packet[VideoStream]]") -> None:
        for packet in packets:
            if self._delay is None:
                self._delay = -(packet.dts or 0)
            self._container.mux(packet)

    def _add_picture(self, container: OutputContainer) -> VideoStream:
        recipe, target, color = self._recipe, self._target, self._painter.color
        options = {**recipe.options, **recipe.by_quality.get(target.quality, {})}
        made = container.add_stream(recipe.codec, target.clip.rate, options=options)
        stream = cast(VideoStream, made)
        context = stream.codec_context
        context.width, context.height = target.width, target.height * recipe.proof.stacked_rows
        context.pix_fmt = self._painter.pixel_format
        context.time_base = recipe.time_base or target.clip.time_base
        context.sample_aspect_ratio = Fraction(1)
        context.color_range = FULL if color.full_range else LIMITED
        context.colorspace, context.color_primaries = color.matrix, color.primaries
        context.color_trc = color.transfer
        if recipe.tag:
            context.codec_tag = recipe.tag
        context.thread_count = recipe.threads
        context.flags |= av.codec.context.Flags.frame_duration  # or the last frame's length is lost
        return stream


def audio_of(target: Target, recipe: EncoderProfile) -> AudioTracks | None:
    """The source's sound as the recipe wants it; None where there is none."""
    if recipe.sound is None or target.source is None or target.clip.audio is None:
        return None
    return AudioTracks(
        source=target.source,
        start=target.clip.start,
        seconds=target.seconds,
        rules=recipe.sound,
        tracks=target.clip.audio_tracks,
    )


def last_until(packet: "av.Packet[VideoStream]", moment: Fraction, *, delay: int | None) -> None:
    """Let what is decoded last end where the picture ends: that need not be what is shown last.

    MP4 counts lengths in order of decoding, and would forget that the last picture stands still for a while.
    ``delay``: ticks of the packet by which the first one is decoded before it is shown.
    """
    if packet.pts is None or packet.dts is None:
        return
    end = round(moment / Fraction(packet.time_base))
    rest = min(end - (delay or 0) - packet.dts, end - packet.pts)
    packet.duration = max(packet.duration or 0, rest)


def tag(picture: av.VideoFrame, color: Color) -> None:
    """Write the color tags on a frame, where encoders and scalers look for them."""
    picture.color_range = FULL if color.full_range else LIMITED
    picture.colorspace, picture.color_primaries = color.matrix, color.primaries
    picture.color_trc = color.transfer
