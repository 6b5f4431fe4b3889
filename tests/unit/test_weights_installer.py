"""Weights are installed complete, verified and with an accepted license, or not at all."""

import hashlib
import json
import subprocess
import sys
import threading

import pytest

from alphareel.domain.errors import InvalidRequest, NotFound, WeightsInvalid
from alphareel.matting import weights as weights_module
from alphareel.matting.weights import Weights, WeightsFile
from alphareel.weights.catalog import catalog, weights_named
from alphareel.weights.downloader import Downloader, RetryPolicy
from alphareel.weights.installer import Installer, ProgressListener
from alphareel.weights.store import ModelsFolder

from .weights_server import weights_server

BODY = bytes(range(256)) * 400
SIZE = len(BODY)
HASH = hashlib.sha256(BODY).hexdigest()


@pytest.fixture
def server():
    with weights_server(files={"/net.onnx": BODY, "/net/config.json": b"{}"}) as running:
        yield running


@pytest.fixture
def folder(tmp_path):
    return ModelsFolder(tmp_path / "models")


def weights(server, *, license_name="MIT", sha256=HASH, size=SIZE, path="net.onnx"):
    file = WeightsFile(path, f"{server.url}/net.onnx", size, sha256)
    return Weights("net", path, license_name, license_name, "https://example.org/net", files=(file,))


def installer(folder, **more):
    loader = Downloader(RetryPolicy(max_attempts=2, connect_timeout=5, idle_timeout=5, delay=0), sleep=lambda _: None)
    return Installer(folder, downloader=loader, **more)


def files_in(folder):
    return (
        {p.relative_to(folder.path).as_posix() for p in folder.path.rglob("*") if p.is_file()}
        if folder.path.is_dir()
        else set()
    )


def test_a_pulled_file_is_verified_and_its_origin_recorded(server, folder):
    known = weights(server)
    [path] = installer(folder).pull(known)
    assert path.read_bytes() == BODY
    assert weights_module.require_weights(known, folder.path) == (path, HASH)
    origin = json.loads((folder.path / "net.onnx.origin.json").read_text())
    assert (origin["from"], origin["sha256"], origin["hash"]) == (f"{server.url}/net.onnx", HASH, "published")
    assert not [name for name in files_in(folder) if name.endswith((".part", ".part.json", ".new"))]


def test_an_installed_file_is_not_downloaded_again(server, folder):
    installer(folder).pull(weights(server))
    installer(folder).pull(weights(server))
    assert len(server.requests) == 1


def test_a_download_with_another_hash_is_never_installed(server, folder):
    server.files["/net.onnx"] = BODY[::-1]
    with pytest.raises(WeightsInvalid, match="was deleted"):
        installer(folder).pull(weights(server))
    assert not [name for name in files_in(folder) if not name.endswith(".lock")]


def test_without_a_published_hash_that_of_the_first_download_is_pinned(server, folder):
    unknown = weights(server, sha256=None, size=None)
    installer(folder).pull(unknown)
    assert (folder.path / "net.onnx.sha256").read_text().startswith(HASH)
    assert folder.verify(unknown.files[0]).detail == "hash of the first download"
    folder.remove(unknown.files[0], forget_hash=False)
    server.files["/net.onnx"] = BODY[::-1]
    with pytest.raises(WeightsInvalid):
        installer(folder).pull(unknown)
    folder.remove(unknown.files[0], forget_hash=True)
    assert installer(folder).pull(unknown)[0].read_bytes() == BODY[::-1]


@pytest.mark.parametrize("license_name", ["GPL-3.0", "not stated by the author", "CC-BY-NC-4.0"])
def test_a_license_that_is_not_permissive_must_be_accepted(server, folder, license_name):
    with pytest.raises(InvalidRequest, match="permissive") as caught:
        installer(folder).pull(weights(server, license_name=license_name))
    assert "--accept-license" in caught.value.hint
    assert server.requests == []
    installer(folder, accepted=True).pull(weights(server, license_name=license_name))
    assert json.loads((folder.path / "net.onnx.origin.json").read_text())["license_accepted"] is True


def test_an_interrupted_pull_is_resumed_by_the_next_one(server, folder):
    server.script = ["break", "500", "500"]
    with pytest.raises(Exception, match="500"):
        installer(folder).pull(weights(server))
    status = folder.status(weights(server).files[0])
    assert (status.state, status.bytes) == ("unfinished", len(BODY) // 2)
    [path] = installer(folder).pull(weights(server))
    assert path.read_bytes() == BODY
    assert server.requests[-1] == ("/net.onnx", f"bytes={len(BODY) // 2}-")


def test_a_mirror_has_the_layout_of_a_models_folder(server, folder):
    server.files["/copy/deep/net.onnx"] = BODY
    known = weights(server, path="deep/net.onnx")
    [path] = installer(folder, mirror=f"{server.url}/copy/").pull(known)
    assert path == folder.path / "deep" / "net.onnx"
    assert server.requests == [("/copy/deep/net.onnx", None)]


def test_concurrent_pulls_download_a_file_once(server, folder):
    waited = threading.Event()
    installed = []

    class WaitListener(ProgressListener):
        def wait(self, file):
            waited.set()

    file = weights(server).files[0]
    with folder.lock(file, on_wait=lambda: None):
        second = threading.Thread(
            target=lambda: installed.extend(installer(folder, listener=WaitListener()).pull(weights(server)))
        )
        second.start()
        assert waited.wait(100)
        installer(folder)._download(file)
        folder.install(file, origin="here", accepted=False, weights=weights(server))
    second.join(100)
    assert installed == [folder.path / "net.onnx"]
    assert len(server.requests) == 1


def test_a_damaged_file_must_be_removed_before_a_pull(server, folder):
    known = weights(server)
    [path] = installer(folder).pull(known)
    path.write_bytes(BODY[::-1])
    assert folder.verify(known.files[0]).state == "wrong"
    with pytest.raises(WeightsInvalid, match="SHA-256") as caught:
        installer(folder).pull(known)
    assert "models remove net" in caught.value.hint
    path.write_bytes(BODY[:-1])
    assert "bytes" in folder.status(known.files[0]).detail
    assert folder.remove(known.files[0], forget_hash=False) == len(BODY) - 1
    assert {name for name in files_in(folder) if not name.endswith(".lock")} == set()


def test_weights_are_imported_from_a_file_or_a_folder(server, folder, tmp_path):
    source = tmp_path / "disk" / "anything" / "deep"
    source.mkdir(parents=True)
    (source / "net.onnx").write_bytes(BODY)
    (source.parent / "net.onnx").write_bytes(b"another net of that name")
    known = weights(server, path="deep/net.onnx")
    [path] = installer(folder).import_files(tmp_path / "disk", [known])
    assert path.read_bytes() == BODY
    assert server.requests == []
    folder.remove(known.files[0], forget_hash=True)
    assert installer(folder).import_files(source / "net.onnx", [known]) == [path]


@pytest.mark.parametrize("bytes_", [BODY[::-1], BODY[:100], b""])
def test_a_file_with_wrong_content_is_not_imported(server, folder, tmp_path, bytes_):
    (tmp_path / "net.onnx").write_bytes(bytes_)
    with pytest.raises(WeightsInvalid):
        installer(folder).import_files(tmp_path / "net.onnx", [weights(server)])
    assert not (folder.path / "net.onnx").exists()


def test_an_import_requires_known_files_and_an_accepted_license(server, folder, tmp_path):
    with pytest.raises(NotFound, match="no known weights"):
        installer(folder).import_files(tmp_path, [weights(server)])
    with pytest.raises(NotFound, match="There is no file or folder"):
        installer(folder).import_files(tmp_path / "absent", [weights(server)])
    (tmp_path / "net.onnx").write_bytes(BODY)
    with pytest.raises(InvalidRequest):
        installer(folder).import_files(tmp_path, [weights(server, license_name="GPL-3.0")])


def test_an_unwritable_models_folder_is_a_storage_error(server, tmp_path):
    (tmp_path / "models").write_text("a file")
    with pytest.raises(Exception, match="cannot be written") as caught:
        installer(ModelsFolder(tmp_path / "models")).pull(weights(server))
    assert caught.value.code == "storage_failed"  # type: ignore[attr-defined]


def test_the_catalog_is_consistent():
    paths = [f.path for w in catalog() for f in w.files]
    assert len(paths) == len(set(paths))
    for known in catalog():
        assert known.source.startswith("https://")
        for file in known.files:
            assert file.url.startswith("https://")
            assert ".." not in file.path
            assert file.sha256 is None or len(file.sha256) == 64
    assert not weights_named("rvm").permissive
    with pytest.raises(InvalidRequest, match="no weights 'nonsense'"):
        weights_named("nonsense")


def test_neither_jobs_nor_library_calls_load_the_download_code():
    program = "import sys, alphareel.pipeline.run, alphareel.service.worker.child_main, alphareel.matting.tiers as t; t.list_engines(None); print([m for m in sys.modules if 'alphareel.weights' in m or 'httpx' in m])"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
