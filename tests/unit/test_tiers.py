"""Which engine serves which tier: the user's own network first, the packaged one else, and an honest no."""

import subprocess
import sys
from dataclasses import replace

import pytest

from alphareel.domain.errors import InvalidRequest, ModelUnavailable, WeightsInvalid
from alphareel.domain.options import Options
from alphareel.matting import tiers
from alphareel.matting.models import builtin
from alphareel.matting.people import means_people
from alphareel.testing.networks import make_birefnet, make_builtin, make_modnet, make_rvm


@pytest.fixture
def packaged(tmp_path, monkeypatch):
    path = make_builtin(tmp_path / "builtin.onnx")
    monkeypatch.setattr(builtin, "_PATH", path)
    return path


@pytest.fixture
def folder(tmp_path):
    made = tmp_path / "models"
    made.mkdir()
    return made


@pytest.mark.parametrize("tier", ["original", "light", "human"])
def test_the_packaged_network_serves_when_the_user_brought_none(tier, packaged, folder):
    chosen = tiers.choose(Options(model=tier), folder)
    assert chosen.engine.facts.name == "builtin" == tiers.serving(tier, folder)
    assert bool(chosen.warnings) == (tier == "original"), "which promises more than people"


@pytest.mark.parametrize("tier", ["original", "light", "human"])
def test_a_network_that_the_user_brought_goes_first(tier, packaged, folder):
    make_rvm(folder / "rvm_mobilenetv3_fp32.onnx")
    assert tiers.choose(Options(model=tier), folder).engine.facts.name == "rvm" == tiers.serving(tier, folder)


def test_a_stand_in_that_cuts_out_something_else_is_told(packaged, folder):
    [warning] = tiers.choose(Options(model="original"), folder).warnings
    assert warning.startswith("The model original is served by builtin (cuts out people), since birefnet")
    make_birefnet(folder / "BiRefNet-general-epoch_244.onnx")
    assert tiers.choose(Options(model="original"), folder).warnings == ()


def test_an_operators_own_order_serves_and_whatever_misses_of_it_is_told(packaged, folder):
    make_modnet(folder / "modnet.onnx")
    orders = tiers.parse_orders("human = builtin, modnet; light=modnet")
    assert orders["human"] == ("builtin", "modnet")
    assert orders["original"] == tiers.ENGINES["original"]
    assert [tiers.serving(tier, folder, orders) for tier in ("human", "light")] == ["builtin", "modnet"]
    assert tiers.choose(Options(model="light"), folder, order=orders["light"]).engine.facts.name == "modnet"
    [warning] = tiers.choose(Options(model="human"), folder, order=("rvm", "builtin")).warnings
    assert "rvm" in warning
    assert tiers.parse_orders("") == tiers.ENGINES


@pytest.mark.parametrize("text", ["humans=rvm", "human=", "human=nonsense", "human", "human=rvm;;x"])
def test_an_order_of_engines_or_tiers_that_do_not_exist_is_refused(text):
    with pytest.raises(InvalidRequest, match="orders no engines"):
        tiers.parse_orders(text)


def test_no_models_folder_is_fine(packaged):
    assert tiers.choose(Options(), None).engine.facts.name == "builtin"


def test_a_damaged_network_is_passed_over_with_a_warning(packaged, folder):
    (folder / "rvm_mobilenetv3_fp32.onnx").write_bytes(b"damaged" * 1000)
    chosen = tiers.choose(Options(), folder)
    assert chosen.engine.facts.name == "builtin"
    assert "rvm was passed over" in chosen.warnings[0]


def test_a_network_that_differs_from_its_hash_does_not_serve(packaged, folder):
    path = make_rvm(folder / "rvm_mobilenetv3_fp32.onnx")
    path.with_name(path.name + ".sha256").write_text("0" * 64)
    assert tiers.serving("human", folder) == "builtin"
    assert "SHA-256" in next(o.reason for o in tiers.list_engines(folder) if o.spec.name == "rvm")
    with pytest.raises(WeightsInvalid):
        tiers.choose(Options(engine="rvm"), folder)


@pytest.mark.parametrize("ask", [tiers.choose, tiers.expected])
def test_pro_for_a_dog_is_refused_with_what_to_install_and_the_tiers_that_work(packaged, folder, ask):
    with pytest.raises(ModelUnavailable, match=r"serves the model pro.*(pip install|models pull)") as caught:
        ask(Options(model="pro", text_prompt="golden retriever dog"), folder)
    assert "human" in caught.value.hint
    assert "alphareel models pull prompted" in caught.value.hint
    assert tiers.serving("pro", folder) is None


@pytest.mark.parametrize("prompt", [None, "person wearing red jacket"])
def test_pro_for_people_is_served_by_what_cuts_out_people_and_says_so(packaged, folder, prompt):
    options = Options(model="pro", text_prompt=prompt)
    chosen = tiers.choose(options, folder)
    assert chosen.engine.facts.name == "builtin"
    assert chosen.warnings == tiers.expected(options, folder)
    told = " ".join(chosen.warnings)
    assert "The model pro is served by builtin (cuts out people), since prompted" in told
    assert "pip install" in told or "models pull" in told
    assert ("text_prompt is ignored" in told) == (prompt is not None)


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
def test_a_prompt_means_something_else(prompt):
    assert not means_people(prompt)


def test_an_engine_that_takes_no_notice_of_a_prompt_says_so(packaged, folder):
    options = Options(model="pro", text_prompt="dog")
    orders = tiers.parse_orders("pro=builtin")
    expected = ("text_prompt is ignored: the engine builtin cuts out people, whatever the text says.",)
    assert tiers.choose(options, folder, order=orders["pro"]).warnings == expected
    assert tiers.expected(options, folder, orders) == expected
    named = replace(options, engine="builtin")
    assert tiers.choose(named, folder).warnings == tiers.expected(named, folder) == expected


def test_an_engine_asked_for_by_name_goes_before_the_tier(packaged, folder):
    make_rvm(folder / "rvm_mobilenetv3_fp32.onnx")
    assert tiers.choose(Options(engine="builtin"), folder).engine.facts.name == "builtin"
    assert tiers.choose(Options(model="pro", engine="chroma"), folder).engine.facts.name == "chroma"


def test_an_engine_that_is_absent_is_told_with_where_to_get_it(packaged, folder):
    with pytest.raises(ModelUnavailable) as caught:
        tiers.choose(Options(engine="rvm"), folder)
    assert "https://" in caught.value.hint


@pytest.mark.parametrize("name", ["nonsense", "", "__init__", "../rvm", "os", "x" * 64])
def test_an_unknown_engine_is_refused_with_the_names_there_are(name, packaged, folder):
    with pytest.raises(InvalidRequest, match="builtin, chroma") as caught:
        tiers.choose(Options(engine=name), folder)
    assert caught.value.details[0].field == "engine"


def test_the_offer_names_every_engine_once_with_its_licenses(packaged, folder):
    offers = tiers.list_engines(folder)
    assert [o.spec.name for o in offers] == list(tiers.names())
    assert all(o.spec.code_license and o.spec.weights_license for o in offers)
    missing = next(o for o in offers if o.spec.name == "rvm")
    assert not missing.available
    assert "models folder" in missing.reason


def test_every_engine_of_a_tier_exists():
    assert {name for names in tiers.ENGINES.values() for name in names} <= set(tiers.names())


def test_the_offer_says_when_the_package_lacks_its_network(folder, tmp_path, monkeypatch):
    monkeypatch.setattr(builtin, "_PATH", tmp_path / "absent.onnx")
    assert tiers.serving("human", folder) is None
    with pytest.raises(ModelUnavailable, match="without its network"):
        tiers.choose(Options(), folder)


def test_a_missing_device_is_told_as_such(packaged, folder, monkeypatch):
    monkeypatch.setattr("alphareel.matting.runtime.devices", lambda: ("cpu",))
    with pytest.raises(ModelUnavailable, match="cannot use cuda"):
        tiers.choose(Options(), folder, device="cuda")


def test_listing_what_is_on_offer_loads_no_runtime():
    program = (
        "import sys; from alphareel.matting import tiers; tiers.list_engines(None); print('onnxruntime' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
