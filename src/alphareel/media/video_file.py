"""Video files that FFmpeg writes: the one loop that encodes frames and interleaves the source's audio."""

from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import Protocol, cast

import av
import av.error
from av.container import OutputContainer
from av.video.codeccontext import VideoCodecContext
from av.video.frame import PictureType
from av.video.stream import VideoStream

from alphareel.domain.clip import Color
from alphareel.domain.options import Quality
from alphareel.imaging.frame import Frame, Plane
from alphareel.media.alpha_encoder import AlphaEncoder, add_track
from alphareel.media.attachments import add_attachments
from alphareel.media.audio import AudioProfile, AudioTracks
from alphareel.media.encoder_input import flat_planes, to_av_frame
from alphareel.media.ffmpeg_log import leave_log_to_ffmpeg
from alphareel.media.output_file import EncoderFactory, Target, VerificationProfile
from alphareel.media.result_tag import RESULT_METADATA
from alphareel.media.verify import inspect_video

UNSPECIFIED_RANGE, LIMITED, FULL = 0, 1, 2  # color ranges in FFmpeg's numbers
UNSPECIFIED = 2  # matrix
_LARGE = 1920 * 1088  # pixels
MAX_AUDIO_TAIL = 1  # seconds that audio may continue after the last frame

VIDEO_VERIFICATION = VerificationProfile(inspect_video, frame_tolerance=1)


class PixelConverter(Protocol):
    """Converts planes and alpha to the pixel format of an encoder."""

    @property
    def pixel_format(self) -> str:
        """FFmpeg's name of the output's pixel format."""

    @property
    def color(self) -> Color:
        """Color tags of the output."""

    def convert(self, frame: Frame, alpha: Plane | None) -> av.VideoFrame:
        """The picture for the encoder. The caller sets timestamps and color tags."""


@dataclass(frozen=True)
class EncoderProfile:
    """How FFmpeg encodes a format: its names and options, and the converter for a target.

    ``tag``: the codec's FourCC where players expect another than FFmpeg's default. ``quality_options``: options that
    override ``options`` for a quality. ``large_options``, ``large_threads``: replace ``options`` and ``threads`` for
    pictures of more than 1920x1088 pixels, where set. ``time_base``: the only one that the container has; None to use
    the clip's. ``splits_alpha``: alpha is a stream of the same codec (VP9), which is encoded in a thread of its own.
    ``key_frame_interval``: number of frames after which a key frame is asked for; None where the encoder sees to it.
    """

    container: str
    codec: str
    converter: Callable[[Target], PixelConverter]
    options: Mapping[str, str]
    tag: str = ""
    quality_options: Mapping[Quality, Mapping[str, str]] = field(default_factory=dict)
    container_options: Mapping[str, str] = field(default_factory=dict)
    audio: AudioProfile | None = None
    threads: int = 2
    large_options: Mapping[str, str] = field(default_factory=dict)
    large_threads: int | None = None
    time_base: Fraction | None = None
    splits_alpha: bool = False
    key_frame_interval: int | None = None
    verification: VerificationProfile = VIDEO_VERIFICATION


@dataclass(frozen=True)
class PlanarConverter:
    """Passes planes on as they are: yuv420p, or yuva420p with alpha. Fully transparent areas become black."""

    color: Color
    has_alpha: bool

    @property
    def pixel_format(self) -> str:
        return "yuva420p" if self.has_alpha else "yuv420p"

    def convert(self, frame: Frame, alpha: Plane | None) -> av.VideoFrame:
        if alpha is None:
            return to_av_frame((frame.y, frame.u, frame.v))
        return to_av_frame(flat_planes(frame, alpha, self.color), alpha)


def planar(target: Target) -> PlanarConverter:
    """A converter for encoders that take our planes as they are."""
    return PlanarConverter(target.clip.color, target.has_alpha)


def video_encoder(profile: EncoderProfile) -> EncoderFactory:
    """Opens encoders that write video files by ``profile``."""
    return partial(VideoEncoder, profile=profile)


class VideoEncoder:
    """A FrameEncoder over FFmpeg: one video stream, and the source's audio tracks where the profile has audio."""

    def __init__(self, target: Target, path: Path, *, profile: EncoderProfile) -> None:
        self.verification = profile.verification
        self.audio = open_audio(target, profile)
        self._target = target
        self._profile = profile
        self._converter = profile.converter(target)
        # The newest packet, which is written once it is known not to be the last one.
        self._held: av.Packet[VideoStream] | None = None
        self._delay: int | None = None  # ticks by which the first packet is decoded before it is shown
        self._frames = 0
        leave_log_to_ffmpeg()
        self._container: OutputContainer = av.open(
            str(path.absolute()), "w", format=profile.container, container_options=dict(profile.container_options)
        )
        self._container.metadata.update({**RESULT_METADATA, **target.metadata})
        try:
            self._alpha_encoder: AlphaEncoder | None = None
            self._stream = self._add_video(self._container)
            if self.audio:
                self.audio.attach(self._container)
            add_attachments(self._container, target.attachments)
        except BaseException:
            with suppress(av.error.FFmpegError, OSError):
                self.abort()
            raise

    def encode(self, frame: Frame, alpha: Plane | None, duration: int) -> None:
        picture = self._converter.convert(frame, alpha)
        if self._profile.key_frame_interval and self._frames % self._profile.key_frame_interval == 0:
            picture.pict_type = PictureType.I
        self._frames += 1
        picture.pts, picture.duration, picture.time_base = frame.pts, duration, self._target.clip.time_base
        set_color_tags(picture, self._converter.color)
        self._mux((self._alpha_encoder or self._stream).encode(picture))
        if self.audio:
            self.audio.advance(self._container, (frame.pts + duration) * self._target.clip.time_base)

    def finish(self, end: int) -> None:
        self._mux((self._alpha_encoder or self._stream).encode(None))
        if self._held is not None:
            extend_last_packet(self._held, end * self._target.clip.time_base, delay=self._delay)
            self._container.mux(self._held)
        self._close_alpha_encoder()
        if self.audio:
            self.audio.advance(self._container, end * self._target.clip.time_base + MAX_AUDIO_TAIL)
            self.audio.close()
        self._container.close()

    def abort(self) -> None:
        self._close_alpha_encoder()
        if self.audio:
            self.audio.close()
        # closing writes the trailer, which fails again where writing failed
        self._container.close()

    def _close_alpha_encoder(self) -> None:
        if self._alpha_encoder:
            self._alpha_encoder.close()
            self._alpha_encoder = None  # with its memory, before the file is verified

    def _mux(self, packets: "list[av.Packet[VideoStream]]") -> None:
        for packet in packets:
            if self._delay is None:
                self._delay = -(packet.dts or 0)
            packet.stream = self._stream
            if self._held is not None:
                self._container.mux(self._held)
            self._held = packet

    def _add_video(self, container: OutputContainer) -> VideoStream:
        codec, has_alpha = self._profile.codec, self._converter.pixel_format.startswith("yuva")
        if not (self._profile.splits_alpha and has_alpha):
            stream = cast(VideoStream, container.add_stream(codec, self._target.clip.rate, options=self._options()))
            self._configure(stream.codec_context, self._converter.pixel_format)
            return stream
        stream = add_track(container, codec)
        self._configure(stream.codec_context, self._converter.pixel_format)
        color, alpha = (cast(VideoCodecContext, av.CodecContext.create(codec, "w")) for _ in range(2))
        for context in (color, alpha):
            context.options = self._options()
            self._configure(context, "yuv420p")
        alpha.color_range, alpha.colorspace = UNSPECIFIED_RANGE, UNSPECIFIED  # alpha has no color
        self._alpha_encoder = AlphaEncoder(color, alpha)
        return stream

    def _options(self) -> dict[str, str]:
        large = self._profile.large_options if self._is_large else {}
        return {**self._profile.options, **large, **self._profile.quality_options.get(self._target.quality, {})}

    @property
    def _is_large(self) -> bool:
        return self._target.width * self._target.height > _LARGE

    def _configure(self, context: VideoCodecContext, pixel_format: str) -> None:
        profile, target, color = self._profile, self._target, self._converter.color
        context.width, context.height = target.width, target.height * profile.verification.stacked_rows
        context.pix_fmt = pixel_format
        context.framerate = target.clip.rate
        context.time_base = profile.time_base or target.clip.time_base
        context.sample_aspect_ratio = Fraction(1)
        context.color_range = FULL if color.full_range else LIMITED
        context.colorspace, context.color_primaries = color.matrix, color.primaries
        context.color_trc = color.transfer
        if profile.tag:
            context.codec_tag = profile.tag
        context.thread_count = (self._is_large and profile.large_threads) or profile.threads
        context.flags |= av.codec.context.Flags.frame_duration  # without it the last frame's duration is lost


def open_audio(target: Target, profile: EncoderProfile) -> AudioTracks | None:
    """The source's audio tracks for this target; None where there are none."""
    if profile.audio is None or target.source is None or target.clip.audio is None:
        return None
    return AudioTracks(
        source=target.source,
        start=target.clip.start,
        seconds=target.seconds,
        profile=profile.audio,
        tracks=target.clip.audio_tracks,
    )


def extend_last_packet(packet: "av.Packet[VideoStream]", moment: Fraction, *, delay: int | None) -> None:
    """Extend the packet that is decoded last so that the stream ends at ``moment`` (seconds).

    It need not be the packet that is shown last. MP4 stores durations in decoding order, so without this a long last
    frame loses its duration. ``delay``: ticks by which the first packet is decoded before it is shown.
    """
    if packet.pts is None or packet.dts is None:
        return
    end = round(moment / Fraction(packet.time_base))
    packet.duration = max(packet.duration or 0, end - (delay or 0) - packet.dts)


def set_color_tags(picture: av.VideoFrame, color: Color) -> None:
    """Set the color tags of a frame, where encoders and scalers read them."""
    picture.color_range = FULL if color.full_range else LIMITED
    picture.colorspace, picture.color_primaries = color.matrix, color.primaries
    picture.color_trc = color.transfer
