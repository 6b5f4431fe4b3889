"""docs/licenses.md: every package of the image is on it, under a license that allows what our users do."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs/licenses.md").read_text()
ROWS = dict(re.findall(r"^\| ([a-z0-9-]+) \| [0-9][^|]* \| ([^|]+) \|$", PAGE, flags=re.MULTILINE))
PERMISSIVE = {"0BSD", "Apache-2.0", "BSD-2-Clause", "BSD-3-Clause", "CC0-1.0", "ISC", "MIT", "PSF-2.0", "Zlib"}
WITH_CONDITIONS = {"psycopg": "LGPL-3.0-only", "psycopg-binary": "LGPL-3.0-only", "certifi": "MPL-2.0"}


def test_every_license_is_permissive_or_explained() -> None:
    assert len(ROWS) > 40
    for name, text in ROWS.items():
        if text != WITH_CONDITIONS.get(name):
            assert set(re.split(r" AND | OR ", text)) <= PERMISSIVE, name
    assert all(name.partition("-")[0] in PAGE.partition("## Packages")[2] for name in WITH_CONDITIONS)


def test_every_package_of_the_image_has_a_license_on_the_page() -> None:
    uv = shutil.which("uv", path=f"{Path(sys.executable).parent}:/usr/local/bin:/usr/bin")
    if uv is None:
        pytest.skip("uv is not installed")
    (dockerfile,) = set(re.findall(r"uv sync .*?(--extra .*)", (ROOT / "deploy/Dockerfile").read_text()))
    command = [
        uv,
        "export",
        "--frozen",
        "--no-dev",
        "--no-emit-workspace",
        "--no-hashes",
        "--no-annotate",
        "--no-header",
    ]
    done = subprocess.run([*command, *dockerfile.split()], cwd=ROOT, capture_output=True, text=True, check=True)
    named = re.findall(r"^([a-z0-9-]+)(?:\[[^\]]*\])?==[^;\n]*(?:;(.*))?$", done.stdout, flags=re.MULTILINE)
    everywhere = {name for name, condition in named if "win32" not in condition and "python_full" not in condition}
    assert everywhere - set(ROWS) == set(), "run ./dev licenses"


def test_the_gpl_parts_inside_pyav_are_named() -> None:
    import av  # noqa: PLC0415

    folder = Path(av.__file__).parent.parent / "av.libs"
    for library in ("x264", "x265"):
        if any(folder.glob(f"lib{library}*")):
            assert f"`lib{library}`" in PAGE
    assert "GPL" in (ROOT / "NOTICE").read_text()
