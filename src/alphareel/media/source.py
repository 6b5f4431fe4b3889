"""An opened container: behind a whitelist, bounded, decoded packet by packet so that damage costs frames, not clips."""

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
from alphareel.media.ffmpeg_errors import EXPORT_AGAIN, translating_read_errors
from alphareel.media.signature import HEAD_BYTES, is_animated, sniff
from alphareel.media.webp_reader import WebpDecoder, is_webp, read_animation

# Playlists, image sequences and network protocols stay shut: a file may only lead to its own bytes.
_OPTIONS = {
    "format_whitelist": "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,flv,asf,mpegts,mpeg,ogg,gif,apng,mxf",
    "protocol_whitelist": "file",
}
_USE_A_VIDEO = "Use a video: MP4, MOV, WebM, MKV or AVI."
_ANY_SIDE = 16384  # what is decoded at most where the caller sets no limit
# FFmpeg's own VP8 and VP9 decoders drop the alpha that WebM keeps beside each packet; libvpx keeps it.
_ALPHA_DECODERS = {"vp8": "libvpx", "vp9": "libvpx-vp9"}


@contextmanager
def opened(path: Path, limits: Limits) -> Iterator[InputContainer]:
    """The container of ``path``, closed at the end. Raises NotFound, InvalidFileType, FileTooLarge, BadVideo."""
    with translating_read_errors(path):
        check_bytes(path, limits)
        # an absolute path is never taken for a protocol ("concat:...")
        container = av.open(str(path.absolute()), options=dict(_OPTIONS), metadata_errors="replace")
    try:
        yield container
    finally:
        container.close()


@contextmanager
def decoding(path: Path, limits: Limits) -> "Iterator[Decoder | WebpDecoder]":
    """A decoder of the video in ``path``, which is closed at the end. Raises what ``opened`` raises."""
    with translating_read_errors(path):
        check_bytes(path, limits)
        if is_webp(path):
            yield WebpDecoder(path, read_animation(path))
            return
    with opened(path, limits) as container:
        yield Decoder(container, video_stream(container, path), limits)


@contextmanager
def decoding_from(path: Path, limits: Limits, moment: Fraction) -> Iterator[Iterator[av.VideoFrame]]:
    """Decoded frames from a key frame on that is not after ``moment`` (seconds on the file's clock).

    Where seeking does not lead there, they come from the start.
    """
    with opened(path, limits) as container:
        frames = _sought(container, path, limits, moment)
        if frames is not None:
            yield frames
            return
    with opened(path, limits) as container:
        yield Decoder(container, video_stream(container, path), limits).frames()


def _sought(container: InputContainer, path: Path, limits: Limits, moment: Fraction) -> Iterator[av.VideoFrame] | None:
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


def check_bytes(path: Path, limits: Limits) -> None:
    """Refuse, by size and first bytes, what cannot be a video of ours."""
    if path.is_dir():
        raise InvalidFileType(f"{path.name} is a folder, not a video.", hint="Name one of the files in it.")
    if path.exists() and not path.is_file():
        raise InvalidFileType(f"{path.name} is a device or a pipe, not a file.", hint="Save the video to a file first.")
    if not path.is_file():
        raise NotFound(f"There is no file {path.name}.", hint="Check the path.")
    size = path.stat().st_size
    if size == 0:
        raise InvalidFileType(f"{path.name} is empty.", hint=_USE_A_VIDEO)
    if limits.max_bytes and size > limits.max_bytes:
        raise FileTooLarge(
            f"{path.name} has {size:,} bytes, more than the {limits.max_bytes:,} allowed.",
            hint="Shorten the video or lower its bit rate.",
        )
    with path.open("rb") as file:
        head = file.read(HEAD_BYTES)
    kind = sniff(head)
    if kind is None:
        raise InvalidFileType(f"{path.name} is no video file.", hint=_USE_A_VIDEO)
    if not is_animated(head):
        raise InvalidFileType(f"{path.name} is a picture ({kind}), not a video.", hint=_USE_A_VIDEO)


def video_stream(container: InputContainer, path: Path) -> VideoStream:
    """The stream that a player would show; cover art does not count. Raises InvalidFileType."""
    streams = [s for s in container.streams.video if not s.disposition & av.stream.Disposition.attached_pic]
    if not streams:
        raise InvalidFileType(f"{path.name} holds no video stream.", hint=_USE_A_VIDEO)
    preferred = [s for s in streams if s.disposition & av.stream.Disposition.default]
    stream = (preferred or streams)[0]
    # the binding leaves the context out when the build has no decoder, whatever its stubs say
    if cast(VideoCodecContext | None, stream.codec_context) is None:
        raise InvalidFileType(f"The video of {path.name} has a codec that cannot be read here.", hint=EXPORT_AGAIN)
    return stream


def has_coded_alpha(stream: VideoStream) -> bool:
    """Whether the stream is VP8 or VP9 with alpha beside it."""
    return stream.metadata.get("alpha_mode") == "1" and stream.codec_context.codec.name in _ALPHA_DECODERS


def packets(container: InputContainer, *streams: Stream) -> "Iterator[av.Packet[Any]]":
    """Packets of the streams, the demuxer's empty last ones included. Raises av's errors."""
    while True:
        try:
            yield from container.demux(*streams)
        except IndexError:
            # a stream that was not in the header: the binding does not know it, and goes on behind it when asked again
            continue
        return


class Decoder:
    """Decodes one stream tolerantly. ``errors`` counts packets that could not be decoded, as far as one has read."""

    def __init__(self, container: InputContainer, stream: VideoStream, limits: Limits) -> None:
        self.errors = 0
        self._container = container
        self._stream = stream
        self._context = self._prepare(stream)
        side = limits.max_side or _ANY_SIDE
        # bounds what a stream may allocate when it changes its size on the way
        self._context.options = {"max_pixels": str(side * side)}

    @staticmethod
    def _prepare(stream: VideoStream) -> VideoCodecContext:
        if has_coded_alpha(stream):
            return cast(
                VideoCodecContext, av.CodecContext.create(_ALPHA_DECODERS[stream.codec_context.codec.name], "r")
            )
        stream.codec_context.thread_type = av.codec.context.ThreadType.AUTO
        # a picture with a hole in it is better than none; HEVC would otherwise end at the first damage
        stream.codec_context.flags |= av.codec.context.Flags.output_corrupt
        return stream.codec_context

    def frames(self) -> Iterator[av.VideoFrame]:
        """Decoded frames in the order of presentation. A frame's own damage is concealed or skipped, never raised.

        What comes before the first whole picture, as in a recording that was cut anywhere, is left out.
        """
        begun = False
        for packet in self._packets():
            # the last packet is the demuxer's empty one, which drains the decoder
            for frame in self._decoded(packet):
                begun = begun or not frame.is_corrupt
                if begun:
                    yield frame

    def _packets(self) -> "Iterator[av.Packet[VideoStream]]":
        try:
            yield from packets(self._container, self._stream)
        except (av.error.InvalidDataError, av.error.OSError):
            self.errors += 1

    def _decoded(self, packet: "av.Packet[VideoStream]") -> list[av.VideoFrame]:
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
