"""HDR becomes SDR by tables that are ready: the colours are those of FFmpeg's own mapping, which takes seconds."""

import av
import numpy as np
import pytest

from alphareel.domain.clip import Colour, Limits
from alphareel.media import hdr
from alphareel.media.hdr import ToneMapper
from alphareel.media.read import open_reader
from alphareel.media.source import decoding
from alphareel.media.tone_table import NODES, TABLES, pack, table
from alphareel.testing.clips import make_clip

SIZE = (256, 192)


def hdr_frame(folder, transfer, **settings):
    path = folder / "a.mkv"
    wishes = {"codec": "libx265", "pix_fmt": "yuv420p10le", "colour": Colour(9, 9, transfer), **settings}
    make_clip(path, frames=4, width=SIZE[0], height=SIZE[1], **wishes)
    with decoding(path, Limits()) as decoder:
        return next(iter(decoder.frames()))


@pytest.mark.parametrize("transfer", TABLES)
def test_colours_are_those_of_the_scaler(tmp_path, transfer):
    frame = hdr_frame(tmp_path, transfer)
    quick = ToneMapper()(frame, *SIZE).to_ndarray()
    graph = hdr._by_scaler(frame, *SIZE)
    graph.vpush(frame)
    slow = graph.vpull().to_ndarray()
    difference = np.abs(quick.astype(int) - slow)
    # the clip is grain from end to end: where luma and chroma jump together the two interpolate differently
    assert (difference <= 1).mean() > 0.98
    assert (difference <= 3).mean() > 0.995
    assert difference.mean() < 0.3


@pytest.mark.parametrize("transfer", TABLES)
def test_grey_stays_grey_and_brighter_stays_brighter(transfer):
    """Black, as far as it is black, to white, along the diagonal of the table."""
    grey = np.array([table(transfer)[n, n, n] for n in range(NODES)]).astype(int)
    assert np.abs(grey - grey.mean(axis=1, keepdims=True)).max() <= 12
    assert (np.diff(grey.mean(axis=1)) > 0).all()
    assert grey[0].max() < 10
    assert grey[-1].min() > 4080


def test_what_was_packed_comes_back(tmp_path, monkeypatch):
    made = np.random.default_rng(1).integers(0, 4096, (NODES, NODES, NODES, 3)).astype(np.uint16)
    (tmp_path / "tone.xz").write_bytes(pack(made))
    monkeypatch.setattr("alphareel.media.tone_table._FOLDER", tmp_path)
    monkeypatch.setitem(TABLES, 99, "tone.xz")
    assert np.array_equal(table(99), made)


@pytest.mark.parametrize(
    ("settings", "by"),
    [
        ({}, "table"),
        ({"colour": Colour(9, 1, 16)}, "scaler"),
        (
            {
                "options": {
                    "preset": "ultrafast",
                    "x265-params": "log-level=none:master-display=G(13250,34500)B(7500,3000)R(34000,16000)"
                    "WP(15635,16450)L(10000000,1)",
                }
            },
            "scaler",
        ),
    ],
)
def test_only_what_the_tables_hold_goes_by_them(tmp_path, monkeypatch, settings, by):
    chosen = []
    for name in ("table", "scaler"):
        make = hdr._by_table
        monkeypatch.setattr(hdr, f"_by_{name}", lambda *a, name=name, make=make: chosen.append(name) or make(*a))
    ToneMapper()(hdr_frame(tmp_path, 16, **settings), *SIZE)
    assert chosen[0] == by


def test_no_file_is_left_behind(tmp_path, monkeypatch):
    frame = hdr_frame(tmp_path, 18)
    (tmp_path / "tmp").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "tmp"))
    ToneMapper()(frame, *SIZE)
    assert list((tmp_path / "tmp").iterdir()) == []


def test_pictures_of_odd_and_turned_clips_come_in_their_size(tmp_path):
    make_clip(
        tmp_path / "a.mov",
        frames=4,
        width=131,
        height=97,
        codec="libx265",
        pix_fmt="yuv444p10le",
        colour=Colour(9, 9, 18),
    )
    with open_reader(tmp_path / "a.mov", Limits()) as reader:
        frames = list(reader.frames(thumbnail=(32, 24)))
    assert [frame.y.shape for frame in frames] == [(96, 130)] * 4
    assert isinstance(frames[0].keeper, av.VideoFrame)
