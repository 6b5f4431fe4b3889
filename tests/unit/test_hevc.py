"""HEVC with alpha is available only where a trial succeeds; elsewhere it raises an error with a workaround."""

from dataclasses import replace

import pytest

import alphareel
from alphareel.domain.errors import FormatUnavailable, InvalidRequest
from alphareel.domain.options import Background, Options
from alphareel.media.format import check_format, format_named
from alphareel.media.formats import hevc_mov
from alphareel.media.video_file import PlanarConverter
from alphareel.service.jobs import capabilities
from alphareel.testing.clips import make_clip


@pytest.fixture
def fresh():
    """Runs the trial again for each test."""
    hevc_mov._missing.cache_clear()
    yield
    hevc_mov._missing.cache_clear()


def cut(tmp_path):
    clip = make_clip(tmp_path / "in.mp4", frames=4, background="green")
    return alphareel.cut(clip.path, tmp_path / "out.mov", output_format="hevc_mov", engine="chroma")


@pytest.mark.usefixtures("fresh")
def test_a_missing_hevc_encoder_raises_an_error_with_a_workaround(tmp_path, monkeypatch):
    monkeypatch.setattr(hevc_mov, "_PROFILE", replace(hevc_mov._PROFILE, codec="no_such_encoder"))
    with pytest.raises(FormatUnavailable, match="Mac"):
        cut(tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["in.mp4"]
    assert "hevc_mov" not in alphareel.formats()


@pytest.mark.usefixtures("fresh")
def test_an_hevc_encoder_that_drops_alpha_makes_the_format_unavailable(tmp_path, monkeypatch):
    class Dropping:
        """Encodes without the alpha."""

        pixel_format = "yuv420p"

        def __init__(self, target):
            self.color = target.clip.color
            self._inner = PlanarConverter(target.clip.color, has_alpha=False)

        def convert(self, frame, alpha):
            return self._inner.convert(frame, None)

    profile = replace(hevc_mov._PROFILE, codec="libx264", converter=Dropping, options={}, quality_options={}, tag="")
    monkeypatch.setattr(hevc_mov, "_PROFILE", profile)
    with pytest.raises(FormatUnavailable, match="no alpha"):
        cut(tmp_path)


@pytest.mark.usefixtures("fresh")
def test_an_hevc_encoder_that_keeps_alpha_is_used(tmp_path, monkeypatch):
    profile = replace(hevc_mov._PROFILE, container="matroska", codec="ffv1", options={}, quality_options={}, tag="")
    monkeypatch.setattr(hevc_mov, "_PROFILE", profile)
    assert cut(tmp_path).alpha == "straight"
    assert "hevc_mov" in alphareel.formats()


def test_hevc_with_alpha_refuses_a_background():
    with pytest.raises(InvalidRequest):
        check_format(Options(output_format="hevc_mov", background=Background("color", (0, 0, 0))))


def test_a_job_in_a_format_that_cannot_be_written_here_is_refused_at_its_creation(monkeypatch):
    form = format_named("hevc_mov")
    monkeypatch.setattr(capabilities, "format_named", lambda _: replace(form, missing=lambda: "no encoder"))
    with pytest.raises(FormatUnavailable, match=r"hevc_mov cannot be written here: no encoder\. GET /v1/models"):
        capabilities.Capabilities(None).check([Options(output_format="hevc_mov", engine="chroma")])
    assert capabilities.writable_formats() == ()
