"""deploy/Dockerfile without a container engine: its steps run in a clean folder, its tree is used read-only by nobody."""

import json
import os
import re
import shlex
import shutil
import struct
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import requests

import alphareel
from alphareel.testing.clips import make_clip
from alphareel.testing.service import wait_for

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(900)]

ROOT = Path(__file__).resolve().parents[2]
DOCKERFILE = ROOT / "deploy/Dockerfile"
NOBODY = 10001
# What python:slim has besides the C library: its packages have priority "required", or Python needs them.
OF_THE_BASE_IMAGE = re.compile(
    r"(ld-linux|libc|libm|libpthread|libdl|librt|libutil|libresolv|libgcc_s|libstdc\+\+|libz|libssl|libcrypto|libffi"
    r"|libsqlite3|liblzma|libbz2|libuuid|libcrypt|libanl|libmvec)[.\-]"
)


@dataclass
class Stage:
    """One FROM of the Dockerfile with its instructions, those of the stages it is based on first."""

    base: str
    steps: list[tuple[str, str]] = field(default_factory=list)

    def values(self, instruction: str) -> list[str]:
        return [value for name, value in self.steps if name == instruction]


def read_stages() -> dict[str, Stage]:
    text = re.sub(r"^#.*\n", "", DOCKERFILE.read_text(), flags=re.MULTILINE).replace("\\\n", " ")
    stages: dict[str, Stage] = {}
    stage = Stage("")
    for line in filter(str.strip, text.splitlines()):
        name, _, value = line.partition(" ")
        if name == "FROM":
            base, _, label = value.partition(" AS ")
            stage = Stage(base, list(stages[base].steps) if base in stages else [])
            stages[label] = stage
        else:
            stage.steps.append((name, value.strip()))
    return stages


def environment_of(stage: Stage) -> dict[str, str]:
    pairs = (pair for value in stage.values("ENV") for pair in shlex.split(value))
    return dict(pair.split("=", 1) for pair in pairs)


@dataclass(frozen=True)
class Image:
    """The tree that the stage "cpu" describes, under ``root``, and how its processes are started."""

    root: Path
    environment: dict[str, str]
    entrypoint: list[str]
    command: list[str]
    healthcheck: list[str]
    data: Path

    def start(self, *words: str, **settings: str) -> "subprocess.Popen[str]":
        environment = self.environment | {f"ALPHAREEL_{name}": value for name, value in settings.items()}
        user = NOBODY if os.getuid() == 0 else None
        return subprocess.Popen(
            [self.root / "opt/alphareel/bin" / words[0], *words[1:]],
            env=environment, user=user, group=user, extra_groups=[] if user else None, cwd=self.data, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip

    def run(self, *words: str, **settings: str) -> tuple[int, str]:
        process = self.start(*words, **settings)
        said, _ = process.communicate(timeout=100)
        return process.returncode, said


@pytest.fixture(scope="module")
def image() -> Iterator[Image]:
    uv = shutil.which("uv", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}")
    if uv is None:
        pytest.skip("uv is not installed")
    # Not under pytest's own folder, which other users cannot enter.
    base = Path(tempfile.mkdtemp(prefix="alphareel-image-"))
    base.chmod(0o755)
    root, source = base / "root", base / "src"
    (root / "opt").mkdir(parents=True)
    stages = read_stages()
    build_tree(stages["build"], source, root, uv)
    # uv keeps the modes that files have in its cache.
    subprocess.run(["chmod", "-R", "a+rX", root], check=True)
    data, compiled = root / "data", base / "compiled"
    for folder in (data, compiled):
        folder.mkdir(mode=0o700)
        if os.getuid() == 0:
            os.chown(folder, NOBODY, NOBODY)
    make_writable(root / "opt", "a-w")
    shutil.rmtree(source)
    cpu = stages["cpu"]
    given = environment_of(cpu)
    environment = {**given, "ALPHAREEL_DATA_DIR": str(data), "ALPHAREEL_HOST": "127.0.0.1", "HOME": str(data)}
    environment["PATH"] = f"{root}/opt/alphareel/bin:/usr/bin:/bin"
    # The image has the compiled modules in its tree; here the first process that needs one compiles it for all.
    del environment["PYTHONDONTWRITEBYTECODE"]
    environment["PYTHONPYCACHEPREFIX"] = str(compiled)
    health = cpu.values("HEALTHCHECK")[-1].partition(" CMD ")[2]
    yield Image(
        root, environment, json.loads(cpu.values("ENTRYPOINT")[-1]), json.loads(cpu.values("CMD")[-1]),
        json.loads(health), data,
    )  # fmt: skip
    make_writable(root, "u+w")
    shutil.rmtree(base)


def make_writable(folder: Path, mode: str) -> None:
    subprocess.run(["chmod", "-R", mode, folder], check=True)


def interpreter() -> str:
    """A Python that the image's user may run, too."""
    for found in (
        sys.executable,
        *(shutil.which(f"python3{minor}", path="/usr/local/bin:/usr/bin") for minor in ("", ".13", ".12", ".11")),
    ):
        path = Path(found or "/nowhere").resolve()
        open_to_all = all(parent.stat().st_mode & 0o001 for parent in (path, *path.parents)) if path.exists() else False
        if open_to_all or (path.exists() and os.getuid() != 0):
            version = subprocess.run(
                [path, "-c", "import sys; print(sys.version_info >= (3, 11))"], capture_output=True, check=False
            )
            if version.stdout == b"True\n":
                return str(path)
    pytest.skip("there is no Python 3.11 or newer that an ordinary user can run")


def build_tree(stage: Stage, source: Path, root: Path, uv: str) -> None:
    """COPY and RUN, in order; absolute paths lead into ``root``. Modules are not compiled, to save time.

    As in a build of an image, every user may read the tree, whatever the umask of the tests is.
    """
    kept = {
        name: value for name, value in os.environ.items() if not name.startswith(("ALPHAREEL_", "PYTHON", "VIRTUAL"))
    }
    environment = {
        **kept,
        **environment_of(stage),
        "UV_SYSTEM_CERTS": "1",
        "UV_COMPILE_BYTECODE": "0",
        "UV_LINK_MODE": "copy",
    }
    environment |= {"UV_PROJECT_ENVIRONMENT": f"{root}/opt/alphareel", "UV_PYTHON": interpreter()}
    source.mkdir()
    for name, value in stage.steps:
        if name == "COPY" and not value.startswith("--from"):
            *files, target = value.split()
            for file in files:
                copy(ROOT / file, source / target if len(files) == 1 else source / target / file)
        if name == "RUN" and value.startswith("apt-get"):
            if shutil.which("gcc") is None:
                pytest.skip("there is no C compiler, which the Dockerfile installs")
        elif name == "RUN":
            command = re.sub(r"\buv\b(?= (sync|pip))", uv, value)
            done = subprocess.run(
                ["sh", "-ec", command], cwd=source, env=environment, umask=0o022, capture_output=True, text=True,
                check=False,
            )  # fmt: skip
            if done.returncode != 0 and re.search("dns error|error sending request|offline", done.stderr):
                pytest.skip(f"the packages cannot be downloaded here: {done.stderr[-300:]}")
            assert done.returncode == 0, f"RUN {value}\n{done.stderr}"


def copy(source: Path, target: Path) -> None:
    if source.is_dir():
        shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__", "*.pyc"))
    else:
        shutil.copy(source, target)


def test_the_service_runs_in_the_tree_of_the_image(image: Image, tmp_path: Path) -> None:
    clip = make_clip(tmp_path / "in.mp4", frames=8, background="green").path
    settings = {"API_KEY": "a key of the tests", "PORT": "0", "JOB_THREADS": "1"}
    service = image.start(*image.entrypoint, *image.command, **settings)
    assert service.stdout is not None
    lines: list[str] = []
    try:
        address = None
        while address is None:
            lines.append(service.stdout.readline())
            assert lines[-1], "".join(lines)
            address = re.search(r'"url": "(http://[^"]+)", "event": "listening"', lines[-1])
        base = address.group(1)
        port = base.rpartition(":")[2]
        wait_for(lambda: image.run(*image.healthcheck, PORT=port)[0] == 0, pause=2)
        key = {"X-Api-Key": settings["API_KEY"]}
        with clip.open("rb") as file:
            link = requests.post(f"{base}/v1/uploads", headers=key, files={"file": file}, timeout=60).json()[
                "video_url"
            ]
        order = {"video_url": link, "engine": "chroma", "output_format": "webm"}
        job = requests.post(f"{base}/v1/jobs", headers=key, json=order, timeout=60).json()["id"]
        ended = ("completed", "failed")

        def look() -> dict[str, str]:
            found: dict[str, str] = requests.get(f"{base}/v1/jobs/{job}", headers=key, timeout=60).json()
            return found

        wait_for(lambda: look()["status"] in ended, pause=0.3)
        assert look()["status"] == "completed", look()
        result = tmp_path / "out.webm"
        result.write_bytes(requests.get(look()["output_url"], timeout=60).content)
        assert alphareel.probe(result).has_alpha
    finally:
        service.terminate()
        service.communicate(timeout=60)
    assert service.returncode == 0
    code, said = image.run(*image.healthcheck, PORT=port)
    assert (code, "does not answer" in said) == (6, True)


def test_the_command_works_and_changes_nothing_but_its_data(image: Image, tmp_path: Path) -> None:
    before = listing(image.root / "opt")
    for words in (["--version"], ["formats"], ["doctor"], ["keys", "create", "studio"]):
        code, said = image.run("alphareel", *words)
        assert code == 0, said
    assert listing(image.root / "opt") == before


def listing(folder: Path) -> list[str]:
    return sorted(str(path) for path in folder.rglob("*"))


def test_the_tree_has_no_tool_of_ours_and_no_source(image: Image) -> None:
    packages = {path.name.partition("-")[0].lower() for path in image.root.rglob("*.dist-info")}
    assert {"alphareel", "fastapi", "psycopg", "redis", "obstore", "alphareel_kernels"} <= packages
    assert not packages & {"pytest", "ruff", "mypy", "moto", "hypothesis"}
    assert not [path for path in image.root.rglob("*.pth") if str(ROOT) in path.read_text()], "installed as editable"


def test_no_library_is_missing_in_the_base_image(image: Image) -> None:
    libraries = [path for path in image.root.rglob("*.so*") if path.is_file()]
    assert len(libraries) > 50
    bundled = {path.name for path in libraries}
    missing = {
        f"{path.name} needs {name}"
        for path in libraries
        for name in needed(path)
        if name not in bundled and not OF_THE_BASE_IMAGE.match(name) and not name.startswith("libpython")
    }
    assert missing == set()


def needed(path: Path) -> list[str]:
    """The libraries that an ELF file (64 bits, little-endian) names as needed; none for other files."""
    data = path.read_bytes()
    if data[:6] != b"\x7fELF\x02\x01":
        return []
    (offset,), (size, count) = struct.unpack_from("<Q", data, 32), struct.unpack_from("<HH", data, 54)
    segments = [struct.unpack_from("<IIQQQQQQ", data, offset + i * size) for i in range(count)]
    dynamic = next((s for s in segments if s[0] == 2), None)
    if dynamic is None:
        return []
    entries = [struct.unpack_from("<QQ", data, dynamic[2] + i) for i in range(0, dynamic[5], 16)]
    names = [value for tag, value in entries if tag == 1]
    table = next(value for tag, value in entries if tag == 5)
    load = next(s for s in segments if s[0] == 1 and s[3] <= table < s[3] + s[5])
    start = table - load[3] + load[2]
    return [data[start + name : data.index(b"\0", start + name)].decode() for name in names]
