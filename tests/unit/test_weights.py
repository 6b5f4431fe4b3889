"""A weights file is found, hashed once, and rejected when it does not match its hash."""

import hashlib
import os

import pytest

from alphareel.domain.errors import WeightsInvalid
from alphareel.matting import weights
from alphareel.matting.weights import Weights, find_weights, sha256_of, verify

BYTES = bytes(range(256)) * 16
HASH = hashlib.sha256(BYTES).hexdigest()
WEIGHTS = Weights("net", "net*.onnx", "MIT", "MIT", "https://example.org/net")


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "net_v1.onnx"
    path.write_bytes(BYTES)
    return path


def test_the_first_folder_and_the_first_name_take_precedence(tmp_path):
    first, second = tmp_path / "a", tmp_path / "b"
    for folder, name in ((first, "net_b.onnx"), (first, "net_a.onnx"), (second, "net_0.onnx")):
        folder.mkdir(exist_ok=True)
        (folder / name).write_bytes(BYTES)
    (first / "net_.onnx").mkdir()
    assert find_weights(WEIGHTS, [None, tmp_path / "missing", first, second]) == first / "net_a.onnx"


def test_no_matching_file_is_none(tmp_path):
    (tmp_path / "other.onnx").write_bytes(BYTES)
    assert find_weights(WEIGHTS, [None, tmp_path]) is None


def test_a_file_without_a_known_hash_is_accepted(file):
    assert verify(WEIGHTS, file) == HASH


def test_a_hash_file_next_to_the_weights_must_match(file):
    hash_file = file.with_name(file.name + ".sha256")
    hash_file.write_text(f"{HASH.upper()}  {file.name}\n")
    assert verify(WEIGHTS, file) == HASH
    hash_file.write_text("0" * 64 + "\n")
    with pytest.raises(WeightsInvalid, match="0000") as caught:
        verify(WEIGHTS, file)
    assert WEIGHTS.source in caught.value.hint


def test_a_known_hash_must_match(file):
    with pytest.raises(WeightsInvalid):
        verify(Weights("net", "net*", "MIT", "MIT", "here", sha256=("1" * 64,)), file)
    assert verify(Weights("net", "net*", "MIT", "MIT", "here", sha256=("1" * 64, HASH)), file) == HASH


def test_an_empty_weights_file_is_rejected(file):
    file.write_bytes(b"")
    with pytest.raises(WeightsInvalid, match="too small"):
        verify(WEIGHTS, file)


def test_an_unreadable_weights_file_is_invalid(tmp_path):
    with pytest.raises(WeightsInvalid, match="cannot be read"):
        sha256_of(tmp_path / "absent.onnx")


def test_a_hash_is_cached_until_the_file_changes(file):
    weights._cached_hash.cache_clear()
    sha256_of(file)
    sha256_of(file)
    assert weights._cached_hash.cache_info().misses == 1
    file.write_bytes(BYTES[::-1])
    os.utime(file, ns=(1, 1))
    assert sha256_of(file) != HASH
