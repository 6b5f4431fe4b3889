"""The Python blocks of the README and of the pages run as they are printed."""

import hashlib
import hmac
import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

import alphareel
from alphareel.testing.clips import make_clip
from alphareel_client import RemoveBGVideoClient

ROOT = Path(__file__).parents[2]
PAGES = ("README.md", "docs/quickstart.md", "docs/library.md", "docs/formats.md")
NEEDS_A_SERVER = "Client("  # executed in tests/http/test_documentation.py


def python_blocks(page: str) -> list[str]:
    return re.findall(r"^```python\n(.*?)```", (ROOT / page).read_text(), flags=re.MULTILINE | re.DOTALL)


def text_blocks(page: str) -> list[str]:
    return re.findall(r"^```text\n(.*?)```", (ROOT / page).read_text(), flags=re.MULTILINE | re.DOTALL)


BLOCKS = [
    pytest.param(block, id=f"{page}-{number}")
    for page in PAGES
    for number, block in enumerate(python_blocks(page))
    if NEEDS_A_SERVER not in block
]


@pytest.mark.parametrize("block", BLOCKS)
def test_a_documented_block_runs(block: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    make_clip(tmp_path / "talk.mp4", frames=6, width=160, height=120, audio=True)
    right = block.partition("\n# Wrong")[0]
    names: dict[str, Any] = {"alphareel": alphareel}
    exec(compile(right, "block", "exec"), names)
    if "rgba" in names:
        assert names["rgba"].shape == (120, 160, 4)
        assert names["frame"].format.name == "yuva420p", "or the alpha is opaque"


@pytest.fixture
def is_genuine() -> Callable[..., bool]:
    """The function that docs/webhooks.md shows to receivers."""
    namespace: dict[str, Any] = {}
    [block] = python_blocks("docs/webhooks.md")
    exec(compile(block, "docs/webhooks.md", "exec"), namespace)
    function: Callable[..., bool] = namespace["is_genuine"]
    return function


def test_the_documented_check_of_a_signature_is_right() -> None:
    [block] = [b for b in text_blocks("docs/api.md") if b.startswith("expected =")]
    headers = signed("secret", b"{}")
    for body, expected in ((b"{}", True), (b"[]", False)):
        namespace: dict[str, Any] = {"hmac": hmac, "hashlib": hashlib, "secret": "secret", "raw_body": body}
        namespace |= {"timestamp": headers["X-Webhook-Timestamp"], "signature": headers["X-Webhook-Signature"]}
        exec(compile(block, "docs/api.md", "exec"), namespace)
        assert namespace["genuine"] is expected


def test_the_documented_client_of_removebgvideo_takes_a_base_url() -> None:
    [block] = [b for b in text_blocks("docs/migrate-from-removebgvideo.md") if b.startswith("client =")]
    exec(compile(block, "block", "exec"), {"RemoveBGVideoClient": RemoveBGVideoClient})


def signed(secret: str, body: bytes, *, age: timedelta = timedelta()) -> dict[str, str]:
    timestamp = (datetime.now(UTC) - age).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    digest = hmac.new(secret.encode(), timestamp.encode() + b"." + body, hashlib.sha256).hexdigest()
    return {"X-Webhook-Timestamp": timestamp, "X-Webhook-Signature": "sha256=" + digest}


def test_the_documented_receiver_accepts_a_signed_webhook(is_genuine: Callable[..., bool]) -> None:
    assert is_genuine("secret", signed("secret", b"{}"), b"{}")


def test_the_documented_receiver_refuses_forged_and_old_webhooks(is_genuine: Callable[..., bool]) -> None:
    assert not is_genuine("secret", signed("another secret", b"{}"), b"{}")
    assert not is_genuine("secret", signed("secret", b"{}"), b"[]")
    assert not is_genuine("secret", signed("secret", b"{}", age=timedelta(minutes=6)), b"{}")
