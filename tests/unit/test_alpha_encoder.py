"""Color and alpha that are encoded in two threads give the packets of FFmpeg's own encoder."""

import multiprocessing
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from fractions import Fraction

import av
import numpy as np
import pytest

from alphareel import memory
from alphareel.domain.clip import Clip, Color
from alphareel.media.alpha_encoder import AlphaEncoder
from alphareel.media.formats import webm
from alphareel.media.output_file import Target
from alphareel.media.video_file import VideoEncoder
from alphareel.testing.frames import frame_of

WIDTH, HEIGHT, FRAMES = 320, 192, 8
CLIP = Clip(
    width=WIDTH, height=HEIGHT, time_base=Fraction(1, 25), rate=Fraction(25), seconds=1, frames=FRAMES, codec="h264",
    container="mp4", pixel_format="yuv420p", color=Color(matrix=1, primaries=1, transfer=1),
)  # fmt: skip


def moving(index):
    picture = np.random.default_rng(3).integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)
    alpha = np.zeros((HEIGHT, WIDTH), np.uint8)
    alpha[40:150, 20 + 8 * index : 140 + 8 * index] = 255
    alpha[40:150, 140 + 8 * index : 150 + 8 * index] = 120
    return replace(frame_of(np.roll(picture, 3 * index, axis=1), None), pts=index, duration=1), alpha


def encoded(path, *, splits_alpha):
    profile = replace(webm._PROFILE, splits_alpha=splits_alpha)
    encoder = VideoEncoder(Target(path, CLIP, WIDTH, HEIGHT, has_alpha=True), path, profile=profile)
    for index in range(FRAMES):
        encoder.encode(*moving(index), 1)  # type: ignore[call-arg]
    encoder.finish(FRAMES)
    encoder.abort()
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        packets = [p for p in container.demux(stream) if p.size]
        return (
            [(p.pts, p.duration, p.is_keyframe, bytes(p)) for p in packets],
            [bytes(p.get_sidedata("matroska_block_additional")) for p in packets],
            (stream.metadata, stream.codec_context.color_range, stream.codec_context.colorspace, stream.average_rate),
        )


def test_packets_alpha_and_header_are_those_of_ffmpegs_encoder(tmp_path):
    one, two = (encoded(tmp_path / f"{n}.webm", splits_alpha=n == 2) for n in (1, 2))
    assert len(two[0]) == FRAMES
    assert all(two[1])
    assert one == two


def test_a_failure_while_alpha_is_encoded_is_raised(tmp_path, monkeypatch):
    path = tmp_path / "out.webm"
    encoder = VideoEncoder(Target(path, CLIP, WIDTH, HEIGHT, has_alpha=True), path, profile=webm._PROFILE)

    class Full:
        def encode(self, _):
            raise av.error.MemoryError(12, "Cannot allocate memory")

    monkeypatch.setattr(encoder._alpha_encoder, "_alpha", Full())
    with pytest.raises(av.error.MemoryError):
        encoder.encode(*moving(0), 1)  # type: ignore[call-arg]
    encoder.abort()


def released_blocks(size):
    """Whether the memory of each of the two encoders was released."""
    released, release = [], memory.release_zeros
    memory.release_zeros = lambda *call: released.append(release(*call))
    contexts = [av.CodecContext.create("libvpx-vp9", "w") for _ in range(2)]
    for context in contexts:
        context.width, context.height = size
        context.pix_fmt, context.time_base = "yuv420p", Fraction(1, 25)
    AlphaEncoder(*contexts).close()
    return released


@pytest.mark.skipif(memory._glibc() is None, reason="only with glibc")
@pytest.mark.parametrize("size", [(1280, 720), (1080, 1920), (1922, 1078), (3840, 2160)])
def test_memory_that_the_encoders_set_aside_and_hardly_use_is_released(size):
    """Fails when libvpx changes the size of that memory: ``token_bytes`` then has to follow.

    In a process of its own: once glibc has freed larger blocks, it takes these from its heap, where none is released.
    """
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        assert pool.submit(released_blocks, size).result() == [True, True]
