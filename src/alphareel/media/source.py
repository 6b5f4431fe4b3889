"""Opens and decodes untrusted containers: whitelisted formats, bounded sizes, damage that costs only single frames."""

from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from itertools import chain
from pathlib import Path
from typing import Any, cast

import av
import av.error
from av.container import InputContainer
from av.stream import Stream
from av.video.codeccontext import VideoCodecContext
from av.video.stream import VideoStream

from alphareel.domain.clip import Limits
from alphareel.domain.errors import FileTooLarge, InvalidFileType, NotFound
from alphareel.machine import cores
from alphareel.media.ffmpeg_errors import EXPORT_AGAIN, translating_read_errors
from alphareel.media.ffmpeg_log import leave_log_to_ffmpeg
from alphareel.media.signature import HEAD_BYTES, is_animated, sniff
from alphareel.media.webp_reader import WebpDecoder, is_webp, read_animation

# Excludes playlists, image sequences and network protocols, through which a file could read other files.
_OPTIONS = {
    "format_whitelist": "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,flv,asf,mpegts,mpeg,ogg,gif,apng,mxf",
    "protocol_whitelist": "file",
}
# Of FFmpeg's libraries: other versions may encode the same frames in other ways.
LIBRARY_VERSIONS: dict[str, tuple[int, int, int]] = dict(av.library_versions)
_SUPPORTED_HINT = "Use a video: MP4, MOV, WebM, MKV or AVI."
_MAX_THREADS = 4  # of a decoder
_MAX_SIDE = 16384  # pixels, where the caller sets no limit
# FFmpeg's own VP8 and VP9 decoders drop the alpha that WebM stores as side data. Those of libvpx keep it.
_ALPHA_DECODERS = {"vp8": "libvpx", "vp9": "libvpx-vp9"}


@contextmanager
def open_container(path: Path, limits: Limits) -> Iterator[InputContainer]:
    """Opens the container ``path``. Raises NotFound, InvalidFileType, FileTooLarge, BadVideo."""
    leave_log_to_ffmpeg()
    with translating_read_errors(path):
        check_file(path, limits)
        # FFmpeg never parses an absolute path as a protocol ("concat:...")
        container = av.open(str(path.absolute()), options=dict(_OPTIONS), metadata_errors="replace")
    try:
        yield container
    finally:
        container.close()


@contextmanager
def open_decoder(path: Path, limits: Limits) -> "Iterator[Decoder | WebpDecoder]":
    """Opens a decoder of the video ``path``. Raises like ``open_container``."""
    with translating_read_errors(path):
        check_file(path, limits)
        if is_webp(path):
            yield WebpDecoder(path, read_animation(path))
            return
    with open_container(path, limits) as container:
        yield Decoder(container, video_stream(container, path), limits)


@contextmanager
def decode_from(path: Path, limits: Limits, moment: Fraction) -> Iterator[Iterator[av.VideoFrame]]:
    """Decoded frames from a key frame at or before ``moment`` (seconds on the file's clock).

    Starts at the beginning of the file where seeking fails.
    """
    with open_container(path, limits) as container:
        frames = _seek(container, path, limits, moment)
        if frames is not None:
            yield frames
            return
    with open_container(path, limits) as container:
        yield Decoder(container, video_stream(container, path), limits).frames()


def _seek(container: InputContainer, path: Path, limits: Limits, moment: Fraction) -> Iterator[av.VideoFrame] | None:
    stream = video_stream(container, path)
    frames = Decoder(container, stream, limits).frames()
    try:
        container.seek(int(moment / Fraction(stream.time_base or 1)), stream=stream)
    except av.error.FFmpegError:
        return None
    first = next(frames, None)
    if first is None or first.pts is None or first.pts * Fraction(first.time_base or 0) > moment:
        return None
    return chain([first], frames)


def check_file(path: Path, limits: Limits) -> None:
    """Check the size and the signature of a file. Raises NotFound, InvalidFileType, FileTooLarge and OSError."""
    if path.is_dir():
        raise InvalidFileType(f"{path.name} is a folder, not a video.", hint="Name one of the files in it.")
    if path.exists() and not path.is_file():
        raise InvalidFileType(f"{path.name} is a device or a pipe, not a file.", hint="Save the video to a file first.")
    if not path.is_file():
        raise NotFound(f"There is no file {path.name}.", hint="Check the path.")
    size = path.stat().st_size
    if size == 0:
        raise InvalidFileType(f"{path.name} is empty.", hint=_SUPPORTED_HINT)
    if limits.max_bytes and size > limits.max_bytes:
        raise FileTooLarge(
            f"{path.name} has {size:,} bytes, more than the {limits.max_bytes:,} allowed.",
            hint="Shorten the video or lower its bit rate.",
        )
    with path.open("rb") as file:
        head = file.read(HEAD_BYTES)
    mime = sniff(head)
    if mime is None:
        raise InvalidFileType(f"{path.name} is not a video file.", hint=_SUPPORTED_HINT)
    if not is_animated(head):
        raise InvalidFileType(f"{path.name} is a picture ({mime}), not a video.", hint=_SUPPORTED_HINT)


def video_stream(container: InputContainer, path: Path) -> VideoStream:
    """The default video stream, ignoring cover art. Raises InvalidFileType."""
    streams = [s for s in container.streams.video if not s.disposition & av.stream.Disposition.attached_pic]
    if not streams:
        raise InvalidFileType(f"{path.name} has no video stream.", hint=_SUPPORTED_HINT)
    preferred = [s for s in streams if s.disposition & av.stream.Disposition.default]
    stream = (preferred or streams)[0]
    # PyAV sets no context when FFmpeg has no decoder, unlike what its type stubs say
    if cast(VideoCodecContext | None, stream.codec_context) is None:
        raise InvalidFileType(f"The video of {path.name} has a codec that cannot be read here.", hint=EXPORT_AGAIN)
    return stream


def has_coded_alpha(stream: VideoStream) -> bool:
    """Whether the stream is VP8 or VP9 with alpha as side data."""
    return stream.metadata.get("alpha_mode") == "1" and stream.codec_context.codec.name in _ALPHA_DECODERS


def packets(container: InputContainer, *streams: Stream) -> "Iterator[av.Packet[Any]]":
    """Packets of the streams, including the empty ones at the end that flush a decoder. Raises av's errors."""
    while True:
        try:
            yield from container.demux(*streams)
        except IndexError:
            # a packet of a stream that the header does not list, on which PyAV raises; demuxing continues after it
            continue
        return


class Decoder:
    """Decodes one stream and skips damage. ``errors``: packets that could not be decoded so far."""

    def __init__(self, container: InputContainer, stream: VideoStream, limits: Limits) -> None:
        self.errors = 0
        self._container = container
        self._stream = stream
        self._context = self._prepare(stream)
        side = limits.max_side or _MAX_SIDE
        # bounds the memory of a stream that changes its picture size
        self._context.options = {"max_pixels": str(side * side)}

    @staticmethod
    def _prepare(stream: VideoStream) -> VideoCodecContext:
        if has_coded_alpha(stream):
            return cast(
                VideoCodecContext, av.CodecContext.create(_ALPHA_DECODERS[stream.codec_context.codec.name], "r")
            )
        stream.codec_context.thread_type = av.codec.context.ThreadType.AUTO
        stream.codec_context.thread_count = min(_MAX_THREADS, cores())  # each holds frames of its own
        # a damaged frame is better than none; HEVC would otherwise stop at the first damage
        stream.codec_context.flags |= av.codec.context.Flags.output_corrupt
        return stream.codec_context

    def frames(self) -> Iterator[av.VideoFrame]:
        """Decoded frames in presentation order. Damaged frames are concealed or skipped; they raise nothing.

        Omits frames before the first intact one, as in a recording that starts between key frames.
        """
        started = False
        for packet in self._packets():
            # the last packet is empty and flushes the decoder
            for frame in self._decode(packet):
                started = started or not frame.is_corrupt
                if started:
                    yield frame

    def _packets(self) -> "Iterator[av.Packet[VideoStream]]":
        try:
            yield from packets(self._container, self._stream)
        except (av.error.InvalidDataError, av.error.OSError):
            self.errors += 1

    def _decode(self, packet: "av.Packet[VideoStream]") -> list[av.VideoFrame]:
        try:
            frames = self._context.decode(packet if packet.size else None)
        except (av.error.MemoryError, MemoryError):
            raise
        except av.error.EOFError:
            return []
        except av.error.FFmpegError:
            self.errors += 1
            return []
        for frame in frames:
            if frame.time_base is None or frame.time_base == 0:
                frame.time_base = self._stream.time_base
        return frames
