"""Shipped tables map HDR to SDR with the colors of FFmpeg's own mapping, which takes seconds to compute."""

from fractions import Fraction

import av
import numpy as np
import pytest
from av.filter import Graph

from alphareel.domain.clip import Color, Limits
from alphareel.media import hdr
from alphareel.media.hdr import (
    BT2020,
    HLG,
    NODES,
    P3,
    PQ,
    SHIPPED,
    Grade,
    ToneMapper,
    grade_of,
    graded_frame,
    load_shipped,
    pack,
)  # fmt: skip
from alphareel.media.reader import open_reader
from alphareel.media.source import open_decoder
from alphareel.testing.clips import make_clip

SIZE = (256, 192)
STUDIO = Grade(PQ, gamut=P3, peak=1000)


def master_display(grade):
    r, g, b = (f"({50 * x},{50 * y})" for x, y in zip(grade.gamut[::2], grade.gamut[1::2], strict=True))
    return f"log-level=none:master-display=G{g}B{b}R{r}WP(15635,16450)L({grade.peak * 10000},50):max-cll=900,200"


def hdr_frame(folder, grade):
    path = folder / "a.mkv"
    parameters = {"x265-params": "log-level=none" if grade.peak is None else master_display(grade)}
    make_clip(
        path,
        frames=4,
        width=SIZE[0],
        height=SIZE[1],
        codec="libx265",
        pix_fmt="yuv420p10le",
        color=Color(9, grade.primaries, grade.transfer),
        options={"preset": "ultrafast", **parameters},
    )
    with open_decoder(path, Limits()) as decoder:
        return next(iter(decoder.frames()))


def by_scaler(frame):
    graph = Graph()
    chain = [
        graph.add_buffer(width=frame.width, height=frame.height, format=frame.format, time_base=Fraction(1, 25)),
        graph.add(
            "scale",
            "flags=bicubic:intent=perceptual:out_primaries=bt709:out_transfer=bt709:"
            "out_color_matrix=bt709:out_range=tv",
        ),
        graph.add("format", "yuv420p"),
        graph.add("buffersink"),
    ]
    graph.link_nodes(*chain).configure()
    graph.vpush(frame)
    return graph.vpull().to_ndarray()


@pytest.mark.parametrize(
    ("grade", "same", "near", "mean"),
    # the clip's grain leaves what a studio's screen can show, and there the mapping has an edge
    [(Grade(PQ), 0.98, 0.995, 0.3), (Grade(HLG), 0.98, 0.995, 0.3), (STUDIO, 0.96, 0.99, 0.4)],
    ids=["PQ", "HLG", "studio"],
)
def test_tone_mapped_colors_are_those_of_ffmpegs_scaler(tmp_path, grade, same, near, mean):
    frame = hdr_frame(tmp_path, grade)
    assert grade_of(frame) == grade
    difference = np.abs(ToneMapper()(frame, *SIZE).to_ndarray().astype(int) - by_scaler(frame))
    # the clip is grain from end to end: where luma and chroma jump together the two interpolate differently
    assert (difference <= 1).mean() > same
    assert (difference <= 3).mean() > near
    assert difference.mean() < mean


@pytest.mark.parametrize(("grade", "name"), SHIPPED.items())
def test_tone_mapping_keeps_gray_neutral_and_the_order_of_brightness(grade, name):
    """Black, as far as it is black, to white, or to where a known screen's light ends, along the table's diagonal."""
    gray = np.array([load_shipped(name)[n, n, n] for n in range(NODES)]).astype(int)
    assert np.abs(gray - gray.mean(axis=1, keepdims=True)).max() <= 12
    below_white = (gray[:-1].mean(axis=1) < 4080) | (grade.peak is None)
    assert (np.diff(gray.mean(axis=1))[below_white] > 0).all()
    assert below_white.sum() > NODES // 2
    assert gray[0].max() < 10
    assert gray[-1].min() > 4080


def test_a_packed_table_is_loaded_unchanged(tmp_path, monkeypatch):
    table = np.random.default_rng(1).integers(0, 4096, (NODES, NODES, NODES, 3)).astype(np.uint16)
    (tmp_path / "tone.xz").write_bytes(pack(table))
    monkeypatch.setattr("alphareel.media.hdr._FOLDER", tmp_path)
    assert np.array_equal(load_shipped("tone.xz"), table)


@pytest.fixture
def sampled(monkeypatch):
    """Grades of the frames that tables were sampled from; nothing is, really."""
    seen = []
    monkeypatch.setattr(hdr, "_cache", {})
    monkeypatch.setattr(hdr, "sample", lambda frame: seen.append(grade_of(frame)) or load_shipped("tone_pq.xz"))
    return seen


@pytest.mark.parametrize("grade", SHIPPED)
def test_common_grades_use_a_shipped_table(tmp_path, sampled, grade):
    ToneMapper()(hdr_frame(tmp_path, grade), *SIZE)
    assert sampled == []


@pytest.mark.parametrize(
    "grade", [Grade(PQ, primaries=1), Grade(PQ, gamut=P3, peak=600), Grade(HLG, gamut=P3, peak=1000)]
)
def test_an_uncommon_grade_is_sampled_once_per_process(tmp_path, sampled, grade):
    frame = hdr_frame(tmp_path, grade)
    for _ in range(2):
        ToneMapper()(frame, *SIZE)
    assert sampled == [grade]


def test_a_clip_that_changes_its_grade_changes_its_table(tmp_path):
    mapper = ToneMapper()
    studio, phone = (graded_frame(grade, tmp_path) for grade in (STUDIO, Grade(PQ)))
    first, second, again = (mapper(frame, *SIZE).to_ndarray() for frame in (studio, phone, studio))
    assert np.array_equal(first, again)
    assert np.abs(first.astype(int) - second).mean() > 1


def test_a_bt2020_display_has_a_table_of_its_own(tmp_path):
    assert grade_of(graded_frame(Grade(PQ, gamut=BT2020, peak=1000), tmp_path)).gamut == BT2020


def test_tone_mapping_leaves_no_temporary_file(tmp_path, monkeypatch):
    frame = hdr_frame(tmp_path, Grade(HLG))
    (tmp_path / "tmp").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "tmp"))
    ToneMapper()(frame, *SIZE)
    assert list((tmp_path / "tmp").iterdir()) == []


def test_tone_mapped_frames_of_odd_and_rotated_clips_have_their_size(tmp_path):
    make_clip(
        tmp_path / "a.mov",
        frames=4,
        width=131,
        height=97,
        codec="libx265",
        pix_fmt="yuv444p10le",
        color=Color(9, 9, 18),
    )
    with open_reader(tmp_path / "a.mov", Limits()) as reader:
        frames = list(reader.frames(thumbnail=(32, 24)))
    assert [frame.y.shape for frame in frames] == [(96, 130)] * 4
    assert isinstance(frames[0].buffer_owner, av.VideoFrame)
