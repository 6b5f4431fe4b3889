"""Engine selection: installed networks take precedence over the bundled one, and errors say what is missing."""

import subprocess
import sys
from dataclasses import replace

import pytest

from alphareel.domain.errors import InvalidRequest, ModelUnavailable, WeightsInvalid
from alphareel.domain.options import Options
from alphareel.matting import priorities, tiers
from alphareel.matting.models import builtin, subject
from alphareel.matting.people import means_people
from alphareel.testing.networks import make_birefnet, make_builtin, make_modnet, make_rvm


@pytest.fixture
def bundled(tmp_path, monkeypatch):
    for module in (builtin, subject):
        monkeypatch.setattr(module, "PATH", make_builtin(tmp_path / f"{module.INFO.name}.onnx"))


@pytest.fixture
def people_only(bundled, tmp_path, monkeypatch):
    """An installation that lacks the bundled network for any subject."""
    monkeypatch.setattr(subject, "PATH", tmp_path / "absent.onnx")


@pytest.fixture
def folder(tmp_path):
    models_dir = tmp_path / "models"
    models_dir.mkdir()
    return models_dir


@pytest.mark.parametrize(("tier", "name"), [("original", "subject"), ("light", "subject"), ("human", "builtin")])
def test_a_bundled_network_for_its_subject_serves_each_tier_without_a_warning(tier, name, bundled, folder):
    selected = tiers.choose(Options(model=tier), folder)
    assert selected.engine.facts.name == name == tiers.serving(tier, folder)
    assert selected.warnings == ()


@pytest.mark.parametrize(("tier", "name"), [("original", "subject"), ("light", "subject"), ("human", "rvm")])
def test_an_installed_network_takes_precedence_for_the_same_subject(tier, name, bundled, folder):
    make_rvm(folder / "rvm_mobilenetv3_fp32.onnx")
    assert tiers.choose(Options(model=tier), folder).engine.facts.name == name == tiers.serving(tier, folder)


@pytest.mark.parametrize("tier", ["original", "light"])
def test_an_engine_for_people_stands_in_for_any_subject_with_a_warning(tier, people_only, folder):
    selected = tiers.choose(Options(model=tier), folder)
    assert selected.engine.facts.name == "builtin" == tiers.serving(tier, folder)
    assert len(selected.warnings) == 1


def test_a_fallback_for_another_kind_of_subject_is_a_warning(people_only, folder):
    [warning] = tiers.choose(Options(model="original"), folder).warnings
    assert warning.startswith("The model original is served by builtin (cuts out people) because birefnet")
    make_birefnet(folder / "BiRefNet-general-epoch_244.onnx")
    assert tiers.choose(Options(model="original"), folder).warnings == ()


def test_custom_priorities_apply_and_every_fallback_from_them_is_a_warning(bundled, folder):
    make_modnet(folder / "modnet.onnx")
    parsed = priorities.parse_priorities("human = builtin, modnet; light=modnet")
    assert parsed["human"] == ("builtin", "modnet")
    assert parsed["original"] == priorities.DEFAULT_PRIORITIES["original"]
    assert [tiers.serving(tier, folder, parsed) for tier in ("human", "light")] == ["builtin", "modnet"]
    assert tiers.choose(Options(model="light"), folder, engine_priority=parsed["light"]).engine.facts.name == "modnet"
    [warning] = tiers.choose(Options(model="human"), folder, engine_priority=("rvm", "builtin")).warnings
    assert "rvm" in warning
    assert priorities.parse_priorities("") == priorities.DEFAULT_PRIORITIES


@pytest.mark.parametrize("text", ["humans=rvm", "human=", "human=nonsense", "human", "human=rvm;;x"])
def test_priorities_with_unknown_engines_or_tiers_are_refused(text):
    with pytest.raises(InvalidRequest, match="not a tier and its engines"):
        priorities.parse_priorities(text)


def test_an_engine_is_selected_without_a_models_folder(bundled):
    assert tiers.choose(Options(), None).engine.facts.name == "subject"


def test_an_engine_with_a_damaged_weights_file_is_skipped_with_a_warning(bundled, folder):
    (folder / "rvm_mobilenetv3_fp32.onnx").write_bytes(b"damaged" * 1000)
    selected = tiers.choose(Options(model="human"), folder)
    assert selected.engine.facts.name == "builtin"
    assert "rvm was skipped" in selected.warnings[0]


def test_an_engine_whose_weights_differ_from_their_hash_serves_no_tier(bundled, folder):
    path = make_rvm(folder / "rvm_mobilenetv3_fp32.onnx")
    path.with_name(path.name + ".sha256").write_text("0" * 64)
    assert tiers.serving("human", folder) == "builtin"
    assert "SHA-256" in next(e.reason for e in tiers.list_engines(folder) if e.info.name == "rvm")
    with pytest.raises(WeightsInvalid):
        tiers.choose(Options(engine="rvm"), folder)


@pytest.mark.parametrize("select", [tiers.choose, tiers.expected_warnings])
def test_pro_for_a_dog_is_refused_with_what_to_install_and_the_tiers_that_work(bundled, folder, select):
    with pytest.raises(ModelUnavailable, match=r"can serve the model pro.*(pip install|models pull)") as caught:
        select(Options(model="pro", text_prompt="golden retriever dog"), folder)
    assert "human" in caught.value.hint
    assert "alphareel models pull prompted" in caught.value.hint
    assert tiers.serving("pro", folder) is None


@pytest.mark.parametrize("prompt", [None, "person wearing red jacket"])
def test_pro_for_people_falls_back_to_an_engine_for_people_with_a_warning(bundled, folder, prompt):
    options = Options(model="pro", text_prompt=prompt)
    selected = tiers.choose(options, folder)
    assert selected.engine.facts.name == "builtin"
    assert selected.warnings == tiers.expected_warnings(options, folder)
    warnings = " ".join(selected.warnings)
    assert "The model pro is served by builtin (cuts out people) because prompted" in warnings
    assert "pip install" in warnings or "models pull" in warnings
    assert ("text_prompt is ignored" in warnings) == (prompt is not None)


@pytest.mark.parametrize(
    "prompt",
    ["Person", "a young woman", "two dancers.", "speaker in front of a car", "man and child", "people, clothing",
     "person, clothing accessories, glowing ring"],
)  # fmt: skip
def test_a_prompt_means_people(prompt):
    assert means_people(prompt)


@pytest.mark.parametrize(
    "prompt", ["dog", "golden retriever dog", "person, dog", "red jacket", "dog next to a man", "in"]
)
def test_a_prompt_means_something_other_than_people(prompt):
    assert not means_people(prompt)


def test_an_engine_that_ignores_the_prompt_warns(bundled, folder):
    options = Options(model="pro", text_prompt="dog")
    parsed = priorities.parse_priorities("pro=builtin")
    expected = ("text_prompt is ignored: the engine builtin cuts out people, whatever the text says.",)
    assert tiers.choose(options, folder, engine_priority=parsed["pro"]).warnings == expected
    assert tiers.expected_warnings(options, folder, parsed) == expected
    named = replace(options, engine="builtin")
    assert tiers.choose(named, folder).warnings == tiers.expected_warnings(named, folder) == expected


def test_an_engine_requested_by_name_overrides_the_tier(bundled, folder):
    make_rvm(folder / "rvm_mobilenetv3_fp32.onnx")
    assert tiers.choose(Options(engine="builtin"), folder).engine.facts.name == "builtin"
    assert tiers.choose(Options(model="pro", engine="chroma"), folder).engine.facts.name == "chroma"


def test_an_error_about_missing_weights_says_where_to_get_them(bundled, folder):
    with pytest.raises(ModelUnavailable) as caught:
        tiers.choose(Options(engine="rvm"), folder)
    assert "https://" in caught.value.hint


@pytest.mark.parametrize("name", ["nonsense", "", "__init__", "../rvm", "os", "x" * 64])
def test_an_unknown_engine_is_refused_with_the_names_of_all_engines(name, bundled, folder):
    with pytest.raises(InvalidRequest, match="builtin, chroma") as caught:
        tiers.choose(Options(engine=name), folder)
    assert caught.value.details[0].field == "engine"


def test_the_offer_names_every_engine_once_with_its_licenses(bundled, folder):
    engines = tiers.list_engines(folder)
    assert [o.info.name for o in engines] == list(priorities.names())
    assert all(o.info.code_license and o.info.weights_license for o in engines)
    assert all(bool(o.info.training_data) == (o.info.weights is not None) for o in engines)
    missing = next(o for o in engines if o.info.name == "rvm")
    assert not missing.available
    assert "models folder" in missing.reason


def test_every_engine_of_a_tier_exists():
    assert {name for names in priorities.DEFAULT_PRIORITIES.values() for name in names} <= set(priorities.names())


def test_an_installation_without_the_bundled_network_says_so(folder, tmp_path, monkeypatch):
    for module in (builtin, subject):
        monkeypatch.setattr(module, "PATH", tmp_path / "absent.onnx")
    assert tiers.serving("human", folder) is None
    with pytest.raises(ModelUnavailable, match="lacks the bundled network"):
        tiers.choose(Options(), folder)


def test_a_missing_device_is_an_error_that_names_it(bundled, folder, monkeypatch):
    monkeypatch.setattr("alphareel.matting.runtime.devices", lambda: ("cpu",))
    with pytest.raises(ModelUnavailable, match="does not support cuda"):
        tiers.choose(Options(), folder, device="cuda")


def test_listing_what_is_on_offer_loads_no_runtime():
    program = (
        "import sys; from alphareel.matting import tiers; tiers.list_engines(None); print('onnxruntime' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_only_permissive_refuses_engines_by_their_published_licenses(tmp_path, monkeypatch):
    def reasons():
        return {engine.info.name: engine.reason or "" for engine in tiers.list_engines(tmp_path)}

    assert not any("ONLY_PERMISSIVE" in reason for reason in reasons().values())
    monkeypatch.setenv("ALPHAREEL_ONLY_PERMISSIVE", "true")
    refused = {name for name, reason in reasons().items() if "ONLY_PERMISSIVE" in reason}
    assert refused == {"rvm", "rvm_resnet50"}
    with pytest.raises(ModelUnavailable, match="not under permissive licenses"):
        tiers.choose(Options(engine="rvm"), tmp_path)
    with pytest.raises(ModelUnavailable, match="not under permissive licenses"):
        tiers.expected_warnings(Options(engine="rvm"), tmp_path)
    facts = tiers.choose(Options(engine="chroma"), tmp_path).engine.facts
    assert (facts.license, facts.code_license, facts.author_statement) == (
        "none needed",
        "Apache-2.0",
        "Our own code; nothing is trained.",
    )
