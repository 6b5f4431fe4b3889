"""Groups of frames that can be replaced in a finished file: what encoders leave there."""

from dataclasses import replace
from fractions import Fraction

import av
import numpy as np
import pytest

from alphareel.domain.clip import Clip, Color
from alphareel.media.formats import mp4, webm
from alphareel.media.output_file import Target
from alphareel.media.video_file import VideoEncoder
from alphareel.testing.frames import frame_of

WIDTH, HEIGHT, GROUP = 128, 96, 5
CLIP = Clip(
    width=WIDTH, height=HEIGHT, time_base=Fraction(1, 1000), rate=Fraction(25), seconds=1, frames=18, codec="h264",
    container="mp4", pixel_format="yuv420p", color=Color(matrix=1, primaries=1, transfer=1),
)  # fmt: skip
UNEVEN = [0, 40, 80, 120, 160, 163, 900, 940, 941, 2000, 2040, 2041, 2042, 2043, 2080, 2120, 2121, 3000]
PROFILES = {
    "webm": replace(webm._PROFILE, options={**webm._PROFILE.options, "g": str(GROUP)}),
    "mp4": replace(
        mp4._PROFILE, key_frame_interval=GROUP, options={**mp4._PROFILE.options, "g": "10", "keyint_min": "6"}
    ),
}


def moving(index):
    """A frame whose picture is another one from frame 7 on."""
    picture = np.random.default_rng(3 if index < 7 else 4).integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)
    alpha = np.zeros((HEIGHT, WIDTH), np.uint8)
    alpha[20:80, 10 + 3 * index : 40 + 3 * index] = 255
    return frame_of(np.roll(picture, 2 * index, axis=1), None), alpha


def encoded(path, name, frames, times):
    """(presentation time, is a key frame, bytes) of each packet, as it is decoded."""
    has_alpha = name == "webm"
    encoder = VideoEncoder(Target(path, CLIP, WIDTH, HEIGHT, has_alpha=has_alpha), path, profile=PROFILES[name])
    for index, tick in zip(frames, times, strict=True):
        frame, alpha = moving(index)
        encoder.encode(replace(frame, pts=tick, duration=40), alpha if has_alpha else None, 40)
    encoder.finish(times[-1] + 40)
    encoder.abort()
    with av.open(str(path)) as container:
        packets = [p for p in container.demux(video=0) if p.size]
        assert [p.dts for p in packets] == sorted({p.dts for p in packets})
        return [(float(p.pts * p.time_base), p.is_keyframe, bytes(p)) for p in packets]


@pytest.mark.parametrize("name", PROFILES)
def test_each_group_of_frames_begins_with_its_only_key_frame(tmp_path, name):
    every = encoded(tmp_path / "all", name, range(18), range(0, 720, 40))
    assert [n for n, (_, is_key, _) in enumerate(every) if is_key] == [0, 5, 10, 15]  # and none at the cut


@pytest.mark.parametrize("name", PROFILES)
def test_groups_keep_uneven_timestamps(tmp_path, name):
    packets = encoded(tmp_path / "out", name, range(18), UNEVEN)
    assert sorted(time for time, _, _ in packets) == pytest.approx([tick / 1000 for tick in UNEVEN], abs=0.001)
    with av.open(str(tmp_path / "out")) as container:
        assert len(list(container.decode(video=0))) == 18
