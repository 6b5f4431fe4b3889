"""Plug-ins of other distributions, found by their entry points without installing anything."""

import sys

import pytest

import alphareel
from alphareel import plugins
from alphareel.domain.errors import InvalidRequest
from alphareel.http.schemas.jobs import Job
from alphareel.media import format as formats
from alphareel.media.format import format_for_suffix, format_named, format_names, parse_options
from alphareel.service.billing.credits import parse_prices
from alphareel.service.files.blob_keys import result_name
from alphareel.service.files.downloads import FileDownload
from alphareel.service.files.signed_urls import FileGrant
from alphareel.service.jobs.capabilities import output_formats
from alphareel.service.jobs.estimates import SourceFacts, estimate
from alphareel.testing.clips import make_clip
from alphareel.testing.fakes import MemoryBlobs

PRICES = parse_prices("original=1,light=1,pro=1,human=1", "v1")
MODULE = '''
"""FFV1 in Matroska, as another distribution would add it."""

from alphareel.media.format import Format
from alphareel.media.video_file import EncoderProfile, planar, video_encoder

FORMAT = Format(
    name="mk3d",
    suffix=".mk3d",
    mime="video/matroska-3d",
    alpha="required",
    audio=False,
    encoder=video_encoder(EncoderProfile(container="matroska", codec="ffv1", converter=planar, options={})),
    bytes_per_pixel=0.5,
)
'''
MODELS, MODEL_ENTRY_POINTS = "alphareel.matting.models", "alphareel.models"


@pytest.fixture
def mk3d(tmp_path, monkeypatch):
    """A distribution on the path that brings the format "mk3d", and a "webm" that must not replace ours."""
    folder = tmp_path / "site"
    info = folder / "alphareel_mk3d-1.0.dist-info"
    info.mkdir(parents=True)
    (folder / "alphareel_mk3d.py").write_text(MODULE)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: alphareel-mk3d\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[alphareel.formats]\nmk3d = alphareel_mk3d\nwebm = alphareel_mk3d\n")
    monkeypatch.syspath_prepend(folder)
    for cached in (plugins.discover, formats.mime_types):
        cached.cache_clear()
    yield "mk3d"
    sys.modules.pop("alphareel_mk3d", None)
    monkeypatch.undo()
    for cached in (plugins.discover, formats.mime_types):
        cached.cache_clear()


def test_a_format_of_another_distribution_is_listed_without_being_imported(mk3d):
    assert mk3d in format_names()
    assert mk3d in output_formats()
    assert "alphareel_mk3d" not in sys.modules


def test_a_format_of_another_distribution_is_found_by_its_name_and_suffix(mk3d):
    assert mk3d in alphareel.formats()
    assert format_named(mk3d).mime == "video/matroska-3d"
    assert format_for_suffix(".MK3D").name == mk3d


def test_a_format_of_another_distribution_does_not_replace_one_of_ours(mk3d):
    assert format_named("webm").suffix == ".webm"


def test_the_service_takes_all_facts_of_a_format_from_its_module(mk3d):
    assert result_name(mk3d) == "result.mk3d"
    options = parse_options({"output_format": mk3d})
    facts = SourceFacts(seconds=1, width=100, height=10, rate=2)
    assert estimate(options, facts, prices=PRICES, runs=()).output_bytes == 1000
    blobs = MemoryBlobs()
    blobs.blobs["outputs/j/1/result.mk3d"] = b"x"
    download = FileDownload.of(FileGrant("outputs/j/1/result.mk3d", "", 0), blobs)
    assert download.content_type == "video/matroska-3d"


def test_a_format_that_requires_alpha_refuses_a_background_wherever_it_comes_from(mk3d):
    with pytest.raises(InvalidRequest, match="mk3d requires a transparent background") as caught:
        parse_options({"output_format": mk3d, "background": "white"})
    assert caught.value.details[0].field == "output_format"


def test_a_clip_is_cut_into_a_format_of_another_distribution(mk3d, tmp_path):
    clip = make_clip(tmp_path / "in.mp4", frames=4, background="green")
    result = alphareel.cut(clip.path, tmp_path / "out.mk3d", engine="chroma")
    assert (result.format, result.mime, result.frames, result.has_alpha) == (mk3d, "video/matroska-3d", 4, True)


def test_formats_that_share_a_suffix_share_their_mime_type_and_one_of_them_is_implied():
    by_suffix = {}
    for form in map(format_named, format_names()):
        by_suffix.setdefault(form.suffix, []).append(form)
    for suffix, group in by_suffix.items():
        assert len({form.mime for form in group}) == 1, suffix
        assert sum(form.implied_by_suffix for form in group) == 1, suffix


def test_the_documented_output_formats_are_those_that_exist():
    assert Job.model_json_schema()["properties"]["output_format"]["enum"] == list(format_names())


def test_a_package_without_the_plug_in_says_which_it_has():
    with pytest.raises(LookupError, match="webm"):
        plugins.module("alphareel.media.formats", "no_such_format")


@pytest.fixture
def distribution(tmp_path, monkeypatch):
    """Installs a distribution with these entry points {name: source of its module} in the group of models."""

    def install(**modules):
        info = tmp_path / "fake_models-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text("Metadata-Version: 2.1\nName: fake-models\nVersion: 1.0\n")
        points = [f"{name} = fake_{name}" for name in modules]
        (info / "entry_points.txt").write_text("\n".join([f"[{MODEL_ENTRY_POINTS}]", *points]) + "\n")
        for name, source in modules.items():
            (tmp_path / f"fake_{name}.py").write_text(source)
        monkeypatch.syspath_prepend(str(tmp_path))
        plugins.discover.cache_clear()

    yield install
    plugins.discover.cache_clear()
    for name in [name for name in sys.modules if name.startswith("fake_")]:
        del sys.modules[name]


def test_a_model_of_another_distribution_is_discovered_and_imported_only_by_its_loader(distribution):
    distribution(outside="VALUE = 42\n")
    loaders = plugins.discover(MODELS, MODEL_ENTRY_POINTS)
    assert {"outside", "chroma"} <= loaders.keys()
    assert list(loaders) == sorted(loaders)
    assert "fake_outside" not in sys.modules
    assert loaders["outside"]().VALUE == 42


def test_another_distribution_cannot_replace_a_model_of_ours(distribution):
    distribution(chroma="raise RuntimeError\n")
    assert plugins.discover(MODELS, MODEL_ENTRY_POINTS)["chroma"]().__name__ == f"{MODELS}.chroma"
