"""Each distribution as its user gets it: built as a wheel and installed into an environment of its own."""

import email
import os
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

from alphareel.testing.clips import make_clip

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(900)]

ROOT = Path(__file__).resolve().parents[2]
SERVICE_ONLY = {"fastapi", "starlette", "uvicorn", "sqlalchemy", "alembic", "dbos", "pydantic", "pydantic-settings"}


@pytest.fixture(scope="module")
def uv():
    found = shutil.which("uv", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}")
    if found is None:
        pytest.skip("uv is not installed")
    return found


@pytest.fixture(scope="module")
def distributions(uv, tmp_path_factory):
    """Folder with a wheel and a source distribution of each: those of a release, or built here."""
    if given := os.environ.get("ALPHAREEL_TEST_DISTRIBUTIONS"):
        return ROOT / given
    folder = tmp_path_factory.mktemp("distributions")
    command = [uv, "build", "--all-packages", "--quiet", "--out-dir", folder]
    built = subprocess.run(
        command, cwd=ROOT, env=environment(), capture_output=True, text=True, timeout=200, check=False
    )
    if built.returncode != 0 and "uv_build" in built.stderr:
        pytest.skip("the build backend is not available offline")
    assert built.returncode == 0, built.stderr
    return folder


@pytest.fixture(scope="module")
def wheels(distributions):
    """The wheels of all distributions, by name."""
    return {path.name.split("-")[0]: path for path in distributions.glob("*.whl")}


@pytest.fixture(scope="module")
def install(uv, wheels, tmp_path_factory):
    """Makes a new environment with one wheel and what it requires; returns its bin folder."""

    def make(name, extra=""):
        folder = tmp_path_factory.mktemp(f"venv-{name}")
        requirement = f"{wheels[name]}{extra}"
        for command in (
            [uv, "venv", "--quiet", "--python", sys.executable, folder],
            [uv, "pip", "install", "--quiet", "--python", folder / "bin" / "python", requirement],
        ):
            done = subprocess.run(command, env=environment(), capture_output=True, text=True, timeout=200, check=False)
            if done.returncode != 0:
                pytest.skip(f"the packages cannot be downloaded here: {done.stderr[-300:]}")
        return folder / "bin"

    return make


def environment():
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("ALPHAREEL_", "PYTHON"))}
    return {**kept, "UV_SYSTEM_CERTS": "1", "COLUMNS": "300"}


def run(*command):
    return subprocess.run(command, env=environment(), capture_output=True, text=True, timeout=200, check=False)


def installed(uv, folder):
    listing = run(uv, "pip", "freeze", "--quiet", "--python", folder / "python").stdout
    return {line.partition("==")[0].partition(" @")[0].lower() for line in listing.splitlines()}


def metadata(wheel):
    with zipfile.ZipFile(wheel) as archive:
        name = next(name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        return email.message_from_bytes(archive.read(name))


def test_the_library_cuts_a_video_without_the_packages_of_the_service(uv, install, tmp_path):
    folder = install("alphareel")
    assert not installed(uv, folder) & SERVICE_ONLY
    clip = make_clip(tmp_path / "clip.mp4", frames=4, background="green").path
    cut = run(folder / "alphareel", "cut", clip, tmp_path / "out.webm", "--engine", "chroma")
    assert cut.returncode == 0, cut.stderr
    assert (tmp_path / "out.webm").stat().st_size > 0
    for verb in (["--help"], ["models"], ["formats"], ["probe", clip], ["doctor"]):
        done = run(folder / "alphareel", *verb)
        assert done.returncode == 0, done.stdout + done.stderr
    assert "not installed, which is optional" in done.stdout
    for verb in (["serve"], ["keys", "list"]):
        done = run(folder / "alphareel", *verb)
        assert done.returncode == 6
        assert 'pip install "alphareel[service]"' in done.stderr
        assert "Traceback" not in done.stderr


def test_the_client_brings_one_package_and_its_dependencies(uv, install, wheels):
    folder = install("alphareel_client")
    program = "import alphareel_client, httpx2; print(alphareel_client.Client('k').base_url)"
    assert run(folder / "python", "-c", program).stdout.strip() == "http://127.0.0.1:8080"
    brought = installed(uv, folder)
    assert "alphareel" not in brought
    assert not brought & (SERVICE_ONLY | {"av", "numpy", "opencv-python-headless", "onnxruntime"})
    assert metadata(wheels["alphareel_client"]).get_all("Requires-Dist") == [
        "httpx2>=2.16,<3",
        "mcp>=2.3,<3 ; extra == 'mcp'",
    ]


def test_the_wheels_have_their_files_and_their_facts(wheels):
    for name, inside in {
        "alphareel": ["alphareel/py.typed", "alphareel/cli/main.py"],
        "alphareel_client": ["alphareel_client/py.typed", "alphareel_client/client.py"],
    }.items():
        with zipfile.ZipFile(wheels[name]) as archive:
            names = archive.namelist()
        assert set(inside) <= set(names)
        assert {found.partition("/")[0].partition("-")[0] for found in names} == {name}
        facts = metadata(wheels[name])
        assert facts["License-Expression"] == "Apache-2.0"
        assert {f"Programming Language :: Python :: 3.{minor}" for minor in range(11, 15)} <= set(
            facts.get_all("Classifier")
        )


def test_the_wheel_of_the_pixel_loops_fits_every_python_of_the_platform(wheels):
    with zipfile.ZipFile(wheels["alphareel_kernels"]) as archive:
        names = archive.namelist()
    assert "alphareel_kernels/py.typed" in names
    assert wheels["alphareel_kernels"].name.split("-")[2:4] == ["py3", "none"]
    if shutil.which("cc"):
        assert any(name.startswith("alphareel_kernels/kernels") and name.endswith(".so") for name in names)


def test_the_source_distributions_make_the_same_wheels(uv, distributions, wheels, tmp_path):
    pure = [wheel for wheel in wheels.values() if wheel.name.endswith("-any.whl")]
    assert len(pure) >= 2
    for wheel in pure:
        (source,) = distributions.glob(f"{'-'.join(wheel.name.split('-')[:2])}.tar.gz")
        assert run(uv, "build", "--wheel", "--quiet", "--out-dir", tmp_path, source).returncode == 0
        assert contents(tmp_path / wheel.name) == contents(wheel), f"{wheel.name} cannot be reproduced"


def contents(wheel):
    """All files but the one that names the version of the builder, and the list of hashes that has its hash."""
    with zipfile.ZipFile(wheel) as archive:
        return {n: archive.read(n) for n in archive.namelist() if not n.endswith((".dist-info/WHEEL", "/RECORD"))}


def test_what_touches_the_inside_of_a_package_has_an_upper_bound():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    service = {line.partition(">")[0]: line for line in project["optional-dependencies"]["service"]}
    for name in ("uvicorn", "starlette", "fastapi", "dbos", "sqlalchemy", "httpcore2"):
        assert "<" in service[name], f"{name} needs an upper bound"
