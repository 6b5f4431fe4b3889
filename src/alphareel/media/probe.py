"""Reads the facts of a video: opens it, checks the limits, and decodes the first frame."""

from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
from av.audio.stream import AudioStream
from av.container import InputContainer
from av.video.stream import VideoStream

from alphareel.domain.clip import AudioFacts, Clip, Color, Limits
from alphareel.domain.errors import BadVideo, DurationTooLong, ResolutionTooLarge
from alphareel.media.ffmpeg_errors import EXPORT_AGAIN, translating_read_errors
from alphareel.media.frame_converter import SDR, Orientation, has_alpha, orientation_of, output_color
from alphareel.media.hdr import is_hdr
from alphareel.media.png import read_apng_length
from alphareel.media.signature import HEAD_BYTES, sniff
from alphareel.media.source import Decoder, check_file, has_coded_alpha, open_container, video_stream
from alphareel.media.webp_reader import TICK, WebpDecoder, is_webp, read_animation

MIN_SIDE = 16  # pixels of the sources that are accepted
_MAX_DAMAGED_START = 64  # frames; an animation that starts with more damaged ones is rejected
_MIN_INDEX_COVERAGE = 0.9  # a shorter AVI index is only what FFmpeg saw while it opened the file
_MIN_TICK = Fraction(1, 1_000_000)
_DEFAULT_TICK = Fraction(1, 90_000)
_CONTAINER_NAMES = {
    "video/mp4": "mp4",
    "video/quicktime": "mov",
    "video/webm": "webm",
    "video/x-matroska": "mkv",
    "video/x-msvideo": "avi",
    "video/mp2t": "mpegts",
    "image/apng": "apng",
    "image/gif": "gif",
    "image/webp": "webp",
}


@dataclass(frozen=True)
class Layout:
    """How stored pictures become the clip's frames.

    ``size``: (width, height) with square pixels, before ``orientation`` is applied. ``frames``: exact number of frames
    in the container's index; 0 when unknown. ``color``: tags of the frames.
    """

    size: tuple[int, int]
    orientation: Orientation
    frames: int
    color: Color


def probe(path: Path, limits: Limits) -> Clip:
    """The facts of the video ``path``.

    Raises NotFound, InvalidFileType (not a video), FileTooLarge, ResolutionTooLarge, DurationTooLong, StorageFailed and
    BadVideo (damaged, or no frame can be decoded).
    """
    return inspect(path, limits)[0]


def inspect(path: Path, limits: Limits, *, min_side: int = MIN_SIDE) -> tuple[Clip, Layout]:
    """Like ``probe``, with the layout, which readers need. ``min_side``: of width and height, pixels."""
    with translating_read_errors(path):
        check_file(path, limits)
        if is_webp(path):
            return _inspect_webp(path, limits)
    with open_container(path, limits) as container, translating_read_errors(path):
        stream = video_stream(container, path)
        check_size(stream.codec_context.width, stream.codec_context.height, limits, min_side)
        frame = next(Decoder(container, stream, limits).frames(), None)
        if frame is None:
            raise _no_frame(path)
        check_seconds(_seconds(path, container, stream, _moment(frame)), limits)
        size = _square_pixel_size(frame.width, frame.height, _sample_aspect(stream))
        check_size(*size, limits, min_side)
        layout = Layout(
            size=size,
            orientation=orientation_of(frame),
            frames=_exact_frames(path, container, stream),
            color=output_color(frame, stream.codec_context),
        )
        return _clip(path, container, stream, frame, layout), layout


def _inspect_webp(path: Path, limits: Limits) -> tuple[Clip, Layout]:
    animation = read_animation(path)
    check_size(animation.width, animation.height, limits)
    seconds = animation.milliseconds / 1000
    check_seconds(seconds, limits)
    if next(WebpDecoder(path, animation).frames(max_damaged_start=_MAX_DAMAGED_START), None) is None:
        raise _no_frame(path)
    size, frames = _square_pixel_size(animation.width, animation.height, Fraction(1)), len(animation.frames)
    clip = Clip(
        width=size[0],
        height=size[1],
        time_base=TICK,
        rate=Fraction(frames * 1000, animation.milliseconds),
        seconds=seconds,
        frames=frames,
        codec="webp",
        container="webp",
        pixel_format="bgra" if animation.has_alpha else "bgr24",
        color=SDR,
        has_alpha=animation.has_alpha,
        cropped=_is_cropped(animation.width, animation.height, Fraction(1)),
        bytes=path.stat().st_size,
    )
    return clip, Layout(size=size, orientation=Orientation(), frames=frames, color=SDR)


def _no_frame(path: Path) -> BadVideo:
    return BadVideo(f"No frame of {path.name} can be decoded.", hint=EXPORT_AGAIN)


def check_size(width: int, height: int, limits: Limits, min_side: int = MIN_SIDE) -> None:
    """Raise ResolutionTooLarge above the limit, BadVideo below the minimum."""
    check_max_size(width, height, limits)
    if 0 < min(width, height) < min_side:
        raise BadVideo(
            f"The video has {width}x{height} pixels; {min_side} a side are needed.", hint="Scale it up first."
        )


def check_max_size(width: int, height: int, limits: Limits) -> None:
    """Raise ResolutionTooLarge above the limit."""
    if limits.max_side and max(width, height) > limits.max_side:
        raise ResolutionTooLarge(
            f"The video has {width}x{height} pixels; {limits.max_side} a side are allowed.",
            hint="Scale it down first.",
        )


def check_seconds(seconds: float, limits: Limits) -> None:
    """Raise DurationTooLong above the limit."""
    if limits.max_seconds and seconds > limits.max_seconds:
        raise DurationTooLong(
            f"The video lasts {seconds:.1f} s; {limits.max_seconds:g} s are allowed.",
            hint="Cut it into shorter parts.",
        )


def _clip(path: Path, container: InputContainer, stream: VideoStream, frame: av.VideoFrame, layout: Layout) -> Clip:
    width, height = layout.size[::-1] if layout.orientation.sideways else layout.size
    start = _moment(frame)
    rate, seconds = _rate(stream), _seconds(path, container, stream, start)
    return Clip(
        width=width,
        height=height,
        time_base=_time_base(stream),
        rate=rate,
        seconds=seconds,
        frames=layout.frames or round(seconds * rate),
        codec=stream.codec_context.codec.canonical_name,
        container=_container_name(path, container),
        pixel_format=frame.format.name,
        rotation=layout.orientation.degrees,
        cropped=_is_cropped(frame.width, frame.height, _sample_aspect(stream)),
        sample_aspect=_sample_aspect(stream),
        color=layout.color,
        hdr=is_hdr(frame),
        interlaced=frame.interlaced_frame,
        has_alpha=has_coded_alpha(stream) or has_alpha(frame),
        audio=_audio(container),
        audio_tracks=len(audio_streams(container)),
        bytes=path.stat().st_size,
        start=start,
    )


def _moment(frame: av.VideoFrame) -> Fraction:
    """Seconds on the file's clock at which the frame is shown."""
    return Fraction(0) if frame.pts is None else frame.pts * Fraction(frame.time_base or 0)


def _container_name(path: Path, container: InputContainer) -> str:
    with path.open("rb") as file:
        return _CONTAINER_NAMES.get(sniff(file.read(HEAD_BYTES)) or "", container.format.name)


def _time_base(stream: VideoStream) -> Fraction:
    """The stream's time base, or 1/90000 s where it is missing or finer than some encoders support."""
    if not stream.time_base or stream.time_base < _MIN_TICK:
        return _DEFAULT_TICK
    return stream.time_base


def _rate(stream: VideoStream) -> Fraction:
    for rate in (stream.average_rate, stream.guessed_rate):
        if rate and 0 < rate <= 1000:
            return Fraction(rate)
    return Fraction(25)


def _seconds(path: Path, container: InputContainer, stream: VideoStream, start: Fraction) -> float:
    """Duration of the video stream according to the container, 0 when unknown.

    Matroska may state only the end of the track or of the file; ``start`` (seconds) is subtracted.
    """
    if container.format.name == "apng":
        return float(read_apng_length(path)[1])
    is_matroska = "matroska" in container.format.name
    if stream.duration and stream.time_base and not is_matroska:
        return float(stream.duration * stream.time_base)
    end = _tagged_seconds(stream.metadata.get("DURATION", "")) or (container.duration or 0) / 1_000_000
    return max(0.0, end - float(start)) if is_matroska else end


def _tagged_seconds(text: str) -> float:
    """Seconds of Matroska's per-track duration, a tag like 00:00:12.480000000."""
    try:
        hours, minutes, seconds = text.split(":")
        return int(hours) * 3600 + int(minutes) * 60 + float(seconds)
    except ValueError:
        return 0.0


def _exact_frames(path: Path, container: InputContainer, stream: VideoStream) -> int:
    """Frames in the container's index, without those that its edit list hides. 0 when unknown."""
    if container.format.name == "apng":
        return read_apng_length(path)[0]
    entries = stream.index_entries
    if container.format.name == "avi" and len(entries) and entries[-1].timestamp >= stream.frames * _MIN_INDEX_COVERAGE:
        return len(entries)  # the frame count of its header includes empty chunks
    if not stream.frames or "mov" not in container.format.name:
        return stream.frames
    return sum(not entry.is_discard for entry in entries)


def _sample_aspect(stream: VideoStream) -> Fraction:
    """Width of a stored pixel divided by its height. Implausible values count as square."""
    aspect = stream.sample_aspect_ratio
    return Fraction(aspect) if aspect and Fraction(1, 4) <= aspect <= 4 else Fraction(1)


def _square_pixel_size(width: int, height: int, aspect: Fraction) -> tuple[int, int]:
    """The even size with square pixels at which the picture keeps all its pixels."""
    if aspect > 1:
        return round(width * aspect) & ~1, height & ~1
    return width & ~1, round(height / aspect) & ~1


def _is_cropped(width: int, height: int, aspect: Fraction) -> bool:
    """Whether a stored row or column is lost. A side that is scaled to square pixels loses none."""
    return bool((width % 2 and aspect <= 1) or (height % 2 and aspect >= 1))


def _audio(container: InputContainer) -> AudioFacts | None:
    for stream in audio_streams(container):
        context = stream.codec_context
        return AudioFacts(context.name, context.sample_rate or 0, context.channels or 0)
    return None


def audio_streams(container: InputContainer) -> list[AudioStream]:
    """The audio tracks that can be decoded, the default track first."""
    streams = [s for s in container.streams.audio if getattr(s, "codec_context", None) is not None]
    return sorted(streams, key=lambda s: not s.disposition & av.stream.Disposition.default)
