"""The one encode and flush loop: frames and the source's sound into a container that FFmpeg writes."""

from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from fractions import Fraction
from math import ceil
from pathlib import Path
from typing import Protocol, cast

import av
import av.error
from av.container import OutputContainer
from av.video.stream import VideoStream

from alphareel.domain.clip import Colour
from alphareel.frame import Frame, Plane
from alphareel.media.carrier import carry, flat_planes
from alphareel.media.ffmpeg_errors import writing
from alphareel.media.part import Part
from alphareel.media.samples import Samples
from alphareel.media.sound import Sound, SoundRules
from alphareel.media.verify import Expectation, Found, inspect_video
from alphareel.media.write import Target

LIMITED, FULL = 1, 2  # ranges in FFmpeg's numbers
_TAIL = 1  # seconds that sound may go on after the last frame
_ROUNDING = 0.002  # seconds; WebM counts in thousandths


class Painter(Protocol):
    """Makes of planes and alpha what an encoder takes. ``colour``: the tags of what it makes."""

    @property
    def pixel_format(self) -> str: ...

    @property
    def colour(self) -> Colour: ...

    def paint(self, frame: Frame, alpha: Plane | None) -> av.VideoFrame:
        """The picture for the encoder; timestamps and tags are set by the caller."""


@dataclass(frozen=True)
class Recipe:
    """How a format is encoded: FFmpeg's names and options, and the painter for a target.

    ``time_base``: the container's ticks where it has only one kind, else the clip's. ``shortest``: seconds that a
    frame lasts at least; those that come sooner are dropped. ``one_bit_alpha``: alpha is kept as all or nothing.
    ``storeys``: pictures of the target's size that stand above each other in what the painter makes. ``inspect``:
    tells what a finished file holds.
    """

    container: str
    codec: str
    painter: Callable[[Target], Painter]
    options: Mapping[str, str]
    container_options: Mapping[str, str] = field(default_factory=dict)
    sound: SoundRules | None = None
    threads: int = 2
    time_base: Fraction | None = None
    shortest: Fraction = Fraction(0)
    one_bit_alpha: bool = False
    storeys: int = 1
    inspect: Callable[[Path, tuple[Fraction, ...]], Found] = inspect_video


@dataclass(frozen=True)
class Planar:
    """The painter of encoders that take our planes as they are: yuv420p, with alpha yuva420p."""

    colour: Colour
    has_alpha: bool

    @property
    def pixel_format(self) -> str:
        return "yuva420p" if self.has_alpha else "yuv420p"

    def paint(self, frame: Frame, alpha: Plane | None) -> av.VideoFrame:
        """The frame's own planes; what is invisible becomes black."""
        if alpha is None:
            return carry((frame.y, frame.u, frame.v))
        return carry(flat_planes(frame, alpha, self.colour), alpha)


class VideoFile:
    """A Sink that writes a container by a recipe."""

    def __init__(self, target: Target, recipe: Recipe) -> None:
        self._target = target
        self._recipe = recipe
        self._painter = recipe.painter(target)
        self._samples = Samples(one_bit=recipe.one_bit_alpha)
        self._frames = 0
        self._end = self._last = Fraction(0)
        self._sound = self._open_sound()
        self._part = Part(target.path)
        self._container: OutputContainer | None = None
        try:
            self._begin()
        except BaseException:
            self.abort()
            raise

    @property
    def path(self) -> Path:
        return self._part.path

    @property
    def warnings(self) -> tuple[str, ...]:
        return self._sound.warnings if self._sound else ()

    def write(self, frame: Frame, alpha: Plane | None) -> None:
        assert (frame.width, frame.height) == (self._target.width, self._target.height), "frames fit the target"
        assert (alpha is not None) == self._target.has_alpha, "alpha comes with every frame or with none"
        base = self._target.clip.time_base
        shortest = ceil(self._recipe.shortest / base)
        duration = max(frame.duration or round(1 / self._target.clip.rate / base), shortest, 1)
        self._end = (frame.pts + duration) * base
        if self._frames and frame.pts * base - self._last < self._recipe.shortest:
            return
        self._last = frame.pts * base
        with writing(self._target.path):
            picture = self._painter.paint(frame, alpha)
            picture.pts, picture.duration, picture.time_base = frame.pts, duration, base
            tag(picture, self._painter.colour)
            self._mux(self._stream.encode(picture))
            if self._sound:
                self._sound.advance(self._opened, self._end)
        self._samples.offer(self._frames, self._last, alpha)
        self._frames += 1

    def finish(self) -> Expectation:
        with writing(self._target.path):
            self._mux(self._stream.encode(None))
            if self._sound:
                self._sound.advance(self._opened, self._end + _TAIL)
                self._sound.close()
            self._opened.close()
        return Expectation(
            frames=self._frames,
            seconds=float(self._end),
            tick=float(1 / self._target.clip.rate) + _ROUNDING,
            width=self._target.width,
            height=self._target.height * self._recipe.storeys,
            has_alpha=self._target.has_alpha,
            has_audio=bool(self._sound and self._sound.packets),
            samples=self._samples.kept,
            inspect=self._recipe.inspect,
        )

    def secure(self) -> None:
        self._part.secure()

    def publish(self) -> None:
        self._part.publish()

    def abort(self) -> None:
        if self._sound:
            self._sound.close()
        if self._container is not None:
            # closing writes the trailer, which fails again where writing failed
            with suppress(av.error.FFmpegError, OSError):
                self._container.close()
        self._part.discard()

    @property
    def _opened(self) -> OutputContainer:
        assert self._container is not None, "begun"
        return self._container

    def _mux(self, packets: "list[av.Packet[VideoStream]]") -> None:
        for packet in packets:
            self._opened.mux(packet)

    def _open_sound(self) -> Sound | None:
        target = self._target
        if self._recipe.sound is None or target.source is None or target.clip.audio is None:
            return None
        return Sound(source=target.source, start=target.clip.start, seconds=target.seconds, rules=self._recipe.sound)

    def _begin(self) -> None:
        recipe = self._recipe
        with writing(self._target.path):
            self._container = av.open(
                str(self._part.path.absolute()),
                "w",
                format=recipe.container,
                container_options=dict(recipe.container_options),
            )
            self._stream = self._add_picture(self._container)
            if self._sound:
                self._sound.attach(self._container)

    def _add_picture(self, container: OutputContainer) -> VideoStream:
        recipe, target, colour = self._recipe, self._target, self._painter.colour
        made = container.add_stream(recipe.codec, target.clip.rate, options=dict(recipe.options))
        stream = cast(VideoStream, made)
        context = stream.codec_context
        context.width, context.height = target.width, target.height * recipe.storeys
        context.pix_fmt = self._painter.pixel_format
        context.time_base = recipe.time_base or target.clip.time_base
        context.sample_aspect_ratio = Fraction(1)
        context.color_range = FULL if colour.full_range else LIMITED
        context.colorspace, context.color_primaries = colour.matrix, colour.primaries
        context.color_trc = colour.transfer
        context.thread_count = recipe.threads
        context.flags |= av.codec.context.Flags.frame_duration  # or the last frame's length is lost
        return stream


def tag(picture: av.VideoFrame, colour: Colour) -> None:
    """Write the colour tags on a frame, where encoders and scalers look for them."""
    picture.color_range = FULL if colour.full_range else LIMITED
    picture.colorspace, picture.color_primaries = colour.matrix, colour.primaries
    picture.color_trc = colour.transfer
