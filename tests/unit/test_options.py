"""Options are parsed by the rules of the API contract, and an error names every invalid field."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from alphareel.domain.color import parse_color
from alphareel.domain.errors import InvalidRequest
from alphareel.domain.options import Background, Composition, Options, from_json, to_json
from alphareel.domain.parsing import OPTION_PARSERS
from alphareel.media.format import parse_options
from alphareel.service.jobs.option_fields import OptionFields
from alphareel.service.jobs.requests import parse_creation

GREEN = Background("color", (9, 162, 70))


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ({}, Background()),
        ({"bg_type": "transparent"}, Background()),
        ({"bg_type": "green"}, GREEN),
        ({"bg_type": "white"}, Background("color", (255, 255, 255))),
        ({"bg_type": "blue"}, Background("color", (0, 0, 255))),
        ({"bg_type": "custom", "bg_color": [1, 1, 1]}, Background("color", (255, 255, 255))),
        ({"bg_type": "color", "bg_color": [9, 162, 70]}, GREEN),
        ({"bg_type": "color", "bg_color": "#09A246"}, GREEN),
        ({"bg_color": [0, 0, 0]}, Background("color", (0, 0, 0))),
        ({"bg_type": "image", "bg_image_url": "https://a/b.png"}, Background("image", image_url="https://a/b.png")),
        ({"background": {"type": "transparent"}}, Background()),
        ({"background": {"type": "color", "color": [0.035, 0.635, 0.274]}}, GREEN),
        ({"background": {"type": "image", "image_url": "https://a/b"}}, Background("image", image_url="https://a/b")),
        ({"background": {"type": "green"}}, GREEN),
        ({"background": {"color": "#fff"}}, Background("color", (255, 255, 255))),
        ({"background": {"type": "transparent"}, "bg_type": "green"}, Background()),
    ],
)
def test_both_notations_of_a_background_mean_the_same(body, expected):
    assert parse_options(body).background == expected


def test_a_start_request_with_any_background_field_replaces_the_stored_background():
    stored = parse_options({"bg_type": "green", "output_format": "mov", "model": "human"})
    started = parse_options({"background": {"type": "transparent"}}, stored=stored)
    assert started.background == Background()
    assert (started.output_format, started.model) == ("mov", "human")
    assert parse_options({}, stored=stored) == stored


def test_defaults_are_those_of_the_api_contract():
    assert parse_options({}) == Options(model="original", output_format="webm", background=Background())


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"model": "x"}, "model"),
        ({"model": ["human"]}, "model"),
        ({"output_format": "avi"}, "output_format"),
        ({"output_format": "mp4"}, "output_format"),
        ({"bg_type": "purple-ish"}, "bg_type"),
        ({"bg_type": "custom"}, "bg_color"),
        ({"bg_type": "image"}, "bg_image_url"),
        ({"bg_color": []}, "bg_color"),
        ({"bg_type": "color", "bg_color": [1, 2]}, "bg_color"),
        ({"background": {"type": "color", "color": [0, 0, 300]}}, "background.color"),
        ({"background": {"type": "image"}}, "background.image_url"),
        ({"background": [1]}, "background"),
        ({"text_prompt": 5}, "text_prompt"),
        ({"text_prompt": "x" * 3000}, "text_prompt"),
        ({"preview_duration": 0}, "preview_duration"),
        ({"preview_duration": True}, "preview_duration"),
        ({"composition": []}, "composition"),
        ({"composition": {"canvas": {"width": 5}}}, "composition.canvas.width"),
        ({"composition": {"foreground": {"anchor": "middle"}}}, "composition.foreground.anchor"),
        ({"composition": {"foreground": {"scale": 11}}}, "composition.foreground.scale"),
        ({"composition": {"foreground": {"offset": {"y": "1"}}}}, "composition.foreground.offset.y"),
    ],
)
def test_an_invalid_value_is_refused_and_its_field_named(body, field):
    with pytest.raises(InvalidRequest) as caught:
        parse_options(body)
    assert field in [d.field for d in caught.value.details]


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({"text_prompt": 5}, "must be a string, not a number."),
        ({"preview_duration": "5"}, "must be a number, not a string."),
        ({"background": {"type": None}}, "is required and must be one of transparent, color"),
        ({"background": {"type": "pink"}}, "must be one of transparent, color"),
    ],
)
def test_a_refusal_names_what_it_got_in_plain_words(body, message):
    with pytest.raises(InvalidRequest) as caught:
        parse_options(body)
    assert caught.value.details[0].message.startswith(message)


def test_all_invalid_fields_are_reported_at_once():
    with pytest.raises(InvalidRequest) as caught:
        parse_options({"model": "x", "output_format": "y", "bg_type": "z"})
    assert {d.field for d in caught.value.details} == {"model", "output_format", "bg_type"}


def test_mp4_with_a_background_is_accepted():
    assert parse_options({"output_format": "mp4", "bg_type": "green"}).background == GREEN


def test_unknown_fields_are_ignored():
    assert parse_options({"quantum": True}) == Options()


def test_a_text_prompt_for_another_model_is_kept_and_causes_a_warning():
    options = parse_options({"model": "human", "text_prompt": "a red cup"})
    assert options.text_prompt == "a red cup"
    assert "text_prompt" in options.warnings()[0]
    assert not parse_options({"model": "pro", "text_prompt": "a red cup"}).warnings()


def test_composition_defaults_are_the_documented_example_values():
    assert parse_options({"composition": {}}).composition == Composition(None, None, "center", 1.0, 0.0, 0.0)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("#abc", (170, 187, 204)),
        ("09a246", (9, 162, 70)),
        ("Green", (9, 162, 70)),
        ([1, 1, 1], (255, 255, 255)),
        ([1, 1, 2], (1, 1, 2)),
        ([0.5, 0.5, 0.5], (128, 128, 128)),
        ((0, 0, 0), (0, 0, 0)),
    ],
)
def test_colors_are_parsed_in_every_notation(value, expected):
    assert parse_color(value) == expected


@pytest.mark.parametrize(
    "value", ["", "#12345", "#ggg", "nogreen", [], [1], [1, 2, 3, 4], [-1, 0, 0], [256, 0, 0], [True, 0, 0],
              [float("nan"), 0, 0], [None, 0, 0], {"r": 1}, 7, None, b"abc"],
)  # fmt: skip
def test_a_value_that_is_not_a_color_is_refused(value):
    with pytest.raises(InvalidRequest):
        parse_color(value)


def test_options_are_equal_after_a_json_round_trip():
    body = {
        "model": "pro", "bg_color": [1, 2, 3], "output_format": "mov", "preview_duration": 2, "text_prompt": "cat",
        "composition": {"canvas": {"width": 640}, "foreground": {"scale": 0.5}}, "key_color": "#00ff00",
    }  # fmt: skip
    options = parse_options(body)
    assert from_json(json.loads(json.dumps(to_json(options)))) == options


JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=6), inner, max_size=4),
    max_leaves=8,
)
FIELDS = ["model", "output_format", "background", "bg_type", "bg_color", "bg_image_url", "composition", "text_prompt",
          "preview_duration", "engine", "key_color"]  # fmt: skip


@given(st.dictionaries(st.sampled_from(FIELDS), JSON))
def test_any_json_is_parsed_or_refused(body):
    try:
        parse_options(body)
    except InvalidRequest as error:
        assert str(error)  # noqa: PT017


@pytest.mark.parametrize("name", ["stacked_mp4", "matte"])
def test_formats_that_require_alpha_refuse_a_background(name):
    assert parse_options({"output_format": name}).output_format == name
    with pytest.raises(InvalidRequest, match="transparent") as caught:
        parse_options({"output_format": name, "background": "white"})
    assert caught.value.details[0].field == "output_format"


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("blur", Background("blur")),
        ({"type": "blur"}, Background("blur")),
        ({"type": "blur", "radius": 12}, Background("blur", radius=12.0)),
        ({"radius": 12}, Background("blur", radius=12.0)),
        ({"type": "video", "video_url": "loop.mp4"}, Background("video", video_url="loop.mp4")),
        ({"video_url": "loop.mp4"}, Background("video", video_url="loop.mp4")),
    ],
)
def test_a_blur_and_a_video_are_accepted_as_backgrounds(value, expected):
    options = parse_options({"background": value, "output_format": "mp4"})
    assert options.background == expected
    assert from_json(json.loads(json.dumps(to_json(options)))) == options


@pytest.mark.parametrize(
    ("value", "field"),
    [
        ({"type": "blur", "radius": 0}, "background.radius"),
        ({"type": "blur", "radius": "wide"}, "background.radius"),
        ({"type": "video"}, "background.video_url"),
        ({"type": "video", "video_url": 7}, "background.video_url"),
        ({"type": "image", "image_url": ["a"]}, "background.image_url"),
    ],
)
def test_an_invalid_blur_or_video_background_is_refused_and_its_field_named(value, field):
    with pytest.raises(InvalidRequest) as caught:
        parse_options({"background": value})
    assert [problem.field for problem in caught.value.details] == [field]


def test_a_plate_for_another_engine_causes_a_warning():
    assert parse_options({"plate": "empty.png"}).warnings() == ()
    (warning,) = parse_options({"plate": "empty.png", "engine": "chroma"}).warnings()
    assert "plate" in warning


def test_a_plate_is_refused_over_http_because_it_is_a_path_on_the_server():
    with pytest.raises(InvalidRequest) as caught:
        parse_creation({"video_url": "https://example.com/a.mp4", "plate": "/etc/passwd"})
    assert [p.field for p in caught.value.details] == ["plate"]


def test_options_for_the_outline_are_parsed_and_checked():
    options = parse_options({"shadows": True, "grow": -1.5, "feather": 2, "engine": "chroma"})
    assert (options.shadows, options.grow, options.feather) == (True, -1.5, 2.0)
    assert options.warnings() == ()
    assert parse_options({"shadows": True}).warnings()
    for bad in ({"shadows": "yes"}, {"grow": 51}, {"feather": -1}):
        with pytest.raises(InvalidRequest):
            parse_options(bad)


def test_a_key_color_without_the_engine_chroma_is_a_warning():
    warnings = Options(key_color=(0, 255, 0)).warnings()
    assert warnings == ("key_color is only used by the engine chroma.",)
    assert not Options(key_color=(0, 255, 0), engine="chroma").warnings()


def test_an_odd_canvas_is_warned_about():
    assert Options(composition=Composition(width=321, height=240)).warnings() == (
        "The sides of the canvas are even, so width 321 becomes 320.",
    )
    assert Options(composition=Composition(width=320)).warnings() == ()


@pytest.mark.parametrize("name", [name for name, parse in OPTION_PARSERS.items() if "minimum" in parse.schema])
def test_the_schema_of_a_number_states_the_limits_that_its_parser_keeps(name):
    parse = OPTION_PARSERS[name]
    for limit, beyond in ((parse.schema["minimum"], -0.01), (parse.schema["maximum"], 0.01)):
        assert parse(limit) == limit
        with pytest.raises(InvalidRequest):
            parse(limit + beyond)


def test_every_option_of_the_parser_is_a_documented_field_of_a_job():
    assert set(OPTION_PARSERS) - {"plate"} < set(OptionFields.model_fields)
