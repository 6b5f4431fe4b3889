"""``alphareel models``: lists, pulls, verifies, removes and imports; exit codes that a script can act on."""

import hashlib
import json
from functools import partial

import pytest

from alphareel.matting.models import rvm
from alphareel.matting.weights import Weights, WeightsFile
from alphareel.testing.networks import make_rvm

from .weights_server import weights_server


@pytest.fixture
def command(command, monkeypatch, tmp_path):
    monkeypatch.setenv("ALPHAREEL_MODELS_DIR", str(tmp_path / "models"))
    monkeypatch.setenv("COLUMNS", "400")
    return partial(command, "models")


@pytest.fixture
def server(tmp_path, monkeypatch):
    """The engine rvm with a tiny network that a server on this machine offers."""
    body = make_rvm(tmp_path / "tiny.onnx").read_bytes()
    with weights_server(files={"/rvm_mobilenetv3_fp32.onnx": body}) as running:
        file = WeightsFile(
            "rvm_mobilenetv3_fp32.onnx",
            f"{running.url}/rvm_mobilenetv3_fp32.onnx",
            len(body),
            hashlib.sha256(body).hexdigest(),
        )
        weights = Weights("rvm", "rvm_mobilenetv3*.onnx", "GPL-3.0", "not stated", "https://example.org", files=(file,))
        monkeypatch.setattr(rvm, "WEIGHTS", weights)
        yield running


def test_engines_and_weights_are_listed(command):
    code, out, _ = command()
    assert code == 0
    assert "builtin" in out
    assert "needs --accept-license" in out
    assert command("list")[1] == out
    listing = json.loads(command("--json")[1])
    assert {e["name"] for e in listing["engines"]} > {"builtin", "rvm"}
    entry = next(w for w in listing["weights"] if w["name"] == "rvm")
    assert entry["permissive"] is False
    assert entry["files"][0]["state"] == "absent"
    assert len(entry["files"][0]["sha256"]) == 64


def test_a_pipe_of_80_columns_loses_no_letter_of_a_name_or_command(command, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    code, out, _ = command()
    assert code == 0
    assert "birefnet_portrait" in out
    assert "\u2026" not in out


def test_a_download_without_a_name_is_a_usage_error(command):
    code, out, err = command("pull")
    assert (code, out) == (2, "")
    assert "modnet" in err
    assert err.count("\n") == 1


def test_a_license_is_asked_for_then_pulled_weights_serve(command, server):
    code, _, err = command("pull", "rvm")
    assert code == 2
    assert "--accept-license" in err
    code, _, err = command("pull", "rvm", "--accept-license")
    assert code == 0
    assert "here and verified" in err
    listing = json.loads(command("--json")[1])
    assert "human" in next(e for e in listing["engines"] if e["name"] == "rvm")["serves"]
    assert "was here already" in command("pull", "rvm", "--accept-license")[2]


def test_a_download_that_fails_has_an_exit_code_of_its_own(command, server):
    server.files.clear()
    code, _, err = command("pull", "rvm", "--accept-license")
    assert code == 7
    assert "404" in err


def test_a_mirror_by_setting(command, server, monkeypatch):
    monkeypatch.setenv("ALPHAREEL_MODELS_MIRROR", f"{server.url}/mirror")
    server.files["/mirror/rvm_mobilenetv3_fp32.onnx"] = server.files["/rvm_mobilenetv3_fp32.onnx"]
    assert command("pull", "rvm", "--accept-license")[0] == 0
    assert server.requests == [("/mirror/rvm_mobilenetv3_fp32.onnx", None)]


def test_verify_tells_the_damaged_file_and_remove_frees_it(command, server, tmp_path):
    command("pull", "rvm", "--accept-license")
    assert command("verify")[0] == 0
    path = tmp_path / "models" / "rvm_mobilenetv3_fp32.onnx"
    path.write_bytes(path.read_bytes()[::-1])
    code, out, _ = command("verify", "rvm")
    assert code == 4
    assert "wrong" in out
    assert command("remove", "rvm")[0] == 0
    assert not path.exists()
    assert command("verify", "rvm")[0] == 4
    assert command("verify")[:2] == (0, f"No known weights in {tmp_path / 'models'}.\n")


def test_import_from_a_disk(command, server, tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    (disk / "rvm_mobilenetv3_fp32.onnx").write_bytes(server.files["/rvm_mobilenetv3_fp32.onnx"])
    assert command("import", disk)[0] == 2
    assert command("import", disk, "--accept-license")[0] == 0
    assert server.requests == []
    assert command("import", tmp_path / "nowhere")[0] == 3


def test_a_name_is_needed_and_must_be_known(command):
    assert command("pull")[0] == 2
    code, _, err = command("pull", "nonsense")
    assert code == 2
    assert "There are" in err
