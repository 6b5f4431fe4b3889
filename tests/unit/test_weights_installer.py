"""Weights reach their folder whole, verified and with their license accepted, or not at all."""

import hashlib
import json
import subprocess
import sys
import threading

import pytest

from alphareel.domain.errors import InvalidRequest, NotFound, WeightsInvalid
from alphareel.matting import weights as engine_side
from alphareel.matting.weights import Weights, WeightsFile
from alphareel.weights.catalog import catalog, weights_named
from alphareel.weights.downloader import Downloader, RetryPolicy
from alphareel.weights.installer import Installer, ProgressListener
from alphareel.weights.store import ModelsFolder

from .weights_server import open_shop

BODY = bytes(range(256)) * 400
SIZE = len(BODY)
HASH = hashlib.sha256(BODY).hexdigest()


@pytest.fixture
def shop():
    with open_shop(files={"/net.onnx": BODY, "/net/config.json": b"{}"}) as made:
        yield made


@pytest.fixture
def folder(tmp_path):
    return ModelsFolder(tmp_path / "models")


def weights(shop, *, license="MIT", sha256=HASH, size=SIZE, path="net.onnx"):
    file = WeightsFile(path, f"{shop.url}/net.onnx", size, sha256)
    return Weights("net", path, license, license, "https://example.org/net", files=(file,))


def supplier(folder, **more):
    loader = Downloader(RetryPolicy(tries=2, connect=5, idle=5, pause=0), sleep=lambda _: None)
    return Installer(folder, downloader=loader, **more)


def left_in(folder):
    return (
        {p.relative_to(folder.path).as_posix() for p in folder.path.rglob("*") if p.is_file()}
        if folder.path.is_dir()
        else set()
    )


def test_a_pulled_file_is_verified_and_says_where_it_is_from(shop, folder):
    known = weights(shop)
    [path] = supplier(folder).pull(known)
    assert path.read_bytes() == BODY
    assert engine_side.require_weights(known, folder.path) == (path, HASH)
    origin = json.loads((folder.path / "net.onnx.origin.json").read_text())
    assert (origin["from"], origin["sha256"], origin["hash"]) == (f"{shop.url}/net.onnx", HASH, "published")
    assert not [name for name in left_in(folder) if name.endswith((".part", ".part.json", ".new"))]


def test_what_is_there_and_right_is_not_fetched_again(shop, folder):
    supplier(folder).pull(weights(shop))
    supplier(folder).pull(weights(shop))
    assert len(shop.seen) == 1


def test_bytes_of_another_hash_never_get_the_name(shop, folder):
    shop.files["/net.onnx"] = BODY[::-1]
    with pytest.raises(WeightsInvalid, match="thrown away"):
        supplier(folder).pull(weights(shop))
    assert not [name for name in left_in(folder) if not name.endswith(".lock")]


def test_where_no_hash_is_published_the_first_that_came_holds(shop, folder):
    unknown = weights(shop, sha256=None, size=None)
    supplier(folder).pull(unknown)
    assert (folder.path / "net.onnx.sha256").read_text().startswith(HASH)
    assert folder.verify(unknown.files[0]).detail == "hash of the first that came"
    folder.remove(unknown.files[0], forget_hash=False)
    shop.files["/net.onnx"] = BODY[::-1]
    with pytest.raises(WeightsInvalid):
        supplier(folder).pull(unknown)
    folder.remove(unknown.files[0], forget_hash=True)
    assert supplier(folder).pull(unknown)[0].read_bytes() == BODY[::-1]


@pytest.mark.parametrize("license", ["GPL-3.0", "not stated by the author", "CC-BY-NC-4.0"])
def test_a_license_that_is_not_permissive_must_be_accepted(shop, folder, license):
    with pytest.raises(InvalidRequest, match="permissive") as caught:
        supplier(folder).pull(weights(shop, license=license))
    assert "--accept-license" in caught.value.hint
    assert shop.seen == []
    supplier(folder, accepted=True).pull(weights(shop, license=license))
    assert json.loads((folder.path / "net.onnx.origin.json").read_text())["license_accepted"] is True


def test_an_interrupted_pull_goes_on_in_the_next_one(shop, folder):
    shop.script = ["break", "500", "500"]
    with pytest.raises(Exception, match="500"):
        supplier(folder).pull(weights(shop))
    standing = folder.standing(weights(shop).files[0])
    assert (standing.state, standing.bytes) == ("unfinished", len(BODY) // 2)
    [path] = supplier(folder).pull(weights(shop))
    assert path.read_bytes() == BODY
    assert shop.seen[-1] == ("/net.onnx", f"bytes={len(BODY) // 2}-")


def test_a_mirror_is_a_copy_of_a_models_folder(shop, folder):
    shop.files["/copy/deep/net.onnx"] = BODY
    known = weights(shop, path="deep/net.onnx")
    [path] = supplier(folder, mirror=f"{shop.url}/copy/").pull(known)
    assert path == folder.path / "deep" / "net.onnx"
    assert shop.seen == [("/copy/deep/net.onnx", None)]


def test_two_pulls_at_once_fetch_once(shop, folder):
    waited = threading.Event()
    done = []

    class Second(ProgressListener):
        def wait(self, file):
            waited.set()

    file = weights(shop).files[0]
    with folder.claim(file, waiting=lambda: None):
        second = threading.Thread(target=lambda: done.extend(supplier(folder, watcher=Second()).pull(weights(shop))))
        second.start()
        assert waited.wait(20)
        supplier(folder)._fetch(file)
        folder.settle(file, origin="here", accepted=False, weights=weights(shop))
    second.join(20)
    assert done == [folder.path / "net.onnx"]
    assert len(shop.seen) == 1


def test_a_damaged_file_is_found_and_has_to_be_removed_first(shop, folder):
    known = weights(shop)
    [path] = supplier(folder).pull(known)
    path.write_bytes(BODY[::-1])
    assert folder.verify(known.files[0]).state == "wrong"
    with pytest.raises(WeightsInvalid, match="SHA-256") as caught:
        supplier(folder).pull(known)
    assert "models remove net" in caught.value.hint
    path.write_bytes(BODY[:-1])
    assert "bytes" in folder.standing(known.files[0]).detail
    assert folder.remove(known.files[0], forget_hash=False) == len(BODY) - 1
    assert {name for name in left_in(folder) if not name.endswith(".lock")} == set()


def test_weights_are_imported_from_a_file_or_a_folder(shop, folder, tmp_path):
    disk = tmp_path / "disk" / "anything" / "deep"
    disk.mkdir(parents=True)
    (disk / "net.onnx").write_bytes(BODY)
    (disk.parent / "net.onnx").write_bytes(b"another net of that name")
    known = weights(shop, path="deep/net.onnx")
    [path] = supplier(folder).take(tmp_path / "disk", [known])
    assert path.read_bytes() == BODY
    assert shop.seen == []
    folder.remove(known.files[0], forget_hash=True)
    assert supplier(folder).take(disk / "net.onnx", [known]) == [path]


@pytest.mark.parametrize("bytes_", [BODY[::-1], BODY[:100], b""])
def test_a_wrong_file_is_not_imported(shop, folder, tmp_path, bytes_):
    (tmp_path / "net.onnx").write_bytes(bytes_)
    with pytest.raises(WeightsInvalid):
        supplier(folder).take(tmp_path / "net.onnx", [weights(shop)])
    assert not (folder.path / "net.onnx").exists()


def test_an_import_needs_something_known_and_its_license(shop, folder, tmp_path):
    with pytest.raises(NotFound, match="no weights that are known"):
        supplier(folder).take(tmp_path, [weights(shop)])
    with pytest.raises(NotFound, match="is not there"):
        supplier(folder).take(tmp_path / "absent", [weights(shop)])
    (tmp_path / "net.onnx").write_bytes(BODY)
    with pytest.raises(InvalidRequest):
        supplier(folder).take(tmp_path, [weights(shop, license="GPL-3.0")])


def test_a_folder_that_cannot_be_written_is_said_so(shop, tmp_path):
    (tmp_path / "models").write_text("a file")
    with pytest.raises(Exception, match="cannot be written") as caught:
        supplier(ModelsFolder(tmp_path / "models")).pull(weights(shop))
    assert caught.value.code == "storage_failed"


def test_the_catalog_is_complete_where_it_can_be():
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


def test_no_job_and_no_library_call_can_fetch_weights():
    program = "import sys, alphareel.pipeline.run, alphareel.service.worker.child_main, alphareel.matting.tiers as t; t.list_engines(None); print([m for m in sys.modules if 'alphareel.weights' in m or 'httpx' in m])"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
