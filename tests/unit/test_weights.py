"""A weights file is found, hashed once, and refused when it is not what its hash says."""

import hashlib
import os

import pytest

from alphareel.domain.errors import WeightsInvalid
from alphareel.matting import weights
from alphareel.matting.weights import Weights, find_weights, sha256_of, verify

BYTES = bytes(range(256)) * 16
HASH = hashlib.sha256(BYTES).hexdigest()
CARD = Weights("net", "net*.onnx", "MIT", "MIT", "https://example.org/net")


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "net_v1.onnx"
    path.write_bytes(BYTES)
    return path


def test_the_first_folder_and_the_first_name_win(tmp_path):
    first, second = tmp_path / "a", tmp_path / "b"
    for folder, name in ((first, "net_b.onnx"), (first, "net_a.onnx"), (second, "net_0.onnx")):
        folder.mkdir(exist_ok=True)
        (folder / name).write_bytes(BYTES)
    (first / "net_.onnx").mkdir()
    assert find_weights(CARD, [None, tmp_path / "missing", first, second]) == first / "net_a.onnx"


def test_nothing_is_found_where_nothing_is(tmp_path):
    (tmp_path / "other.onnx").write_bytes(BYTES)
    assert find_weights(CARD, [None, tmp_path]) is None


def test_a_file_of_ones_own_passes_and_its_hash_is_told(file):
    assert verify(CARD, file) == HASH


def test_a_hash_beside_the_file_must_match(file):
    note = file.with_name(file.name + ".sha256")
    note.write_text(f"{HASH.upper()}  {file.name}\n")
    assert verify(CARD, file) == HASH
    note.write_text("0" * 64 + "\n")
    with pytest.raises(WeightsInvalid, match="0000") as caught:
        verify(CARD, file)
    assert CARD.source in caught.value.hint


def test_a_known_hash_must_match(file):
    with pytest.raises(WeightsInvalid):
        verify(Weights("net", "net*", "MIT", "MIT", "here", sha256=("1" * 64,)), file)
    assert verify(Weights("net", "net*", "MIT", "MIT", "here", sha256=("1" * 64, HASH)), file) == HASH


def test_an_empty_file_is_no_network(file):
    file.write_bytes(b"")
    with pytest.raises(WeightsInvalid, match="too short"):
        verify(CARD, file)


def test_a_file_that_cannot_be_read_is_said_so(tmp_path):
    with pytest.raises(WeightsInvalid, match="cannot be read"):
        sha256_of(tmp_path / "absent.onnx")


def test_a_hash_is_computed_once_and_again_after_a_change(file):
    weights._hash.cache_clear()
    sha256_of(file)
    sha256_of(file)
    assert weights._hash.cache_info().misses == 1
    file.write_bytes(BYTES[::-1])
    os.utime(file, ns=(1, 1))
    assert sha256_of(file) != HASH
