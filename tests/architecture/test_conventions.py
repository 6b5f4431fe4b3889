"""Conventions that no linter checks: what an import may load, the public API, names of modules."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

import alphareel

ROOT = Path(__file__).resolve().parents[2]
SOURCES = sorted((ROOT / "src").rglob("*.py"))


def loaded_by(statement: str) -> set[str]:
    """Top-level modules in memory after a fresh interpreter ran the statement."""
    program = f"import sys; {statement}; print(*{{m.partition('.')[0] for m in sys.modules}})"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


@pytest.mark.parametrize(
    ("statement", "absent"),
    [
        ("import alphareel", {"av", "cv2", "onnxruntime", "fastapi", "sqlalchemy", "dbos", "uvicorn"}),
        ("import alphareel; alphareel.formats()", {"onnxruntime", "fastapi", "sqlalchemy", "dbos"}),
        ("import alphareel; alphareel.models()", {"onnxruntime", "fastapi", "sqlalchemy", "dbos"}),
        ("import alphareel.cli.main", {"av", "cv2", "onnxruntime", "fastapi", "sqlalchemy", "dbos"}),
        ("import alphareel.pipeline.run", {"onnxruntime", "fastapi", "sqlalchemy", "dbos", "pydantic"}),
        ("import alphareel_client", {"alphareel", "av", "numpy", "fastapi"}),
    ],
)
def test_an_import_loads_no_more_than_it_needs(statement, absent):
    assert not loaded_by(statement) & absent


def test_the_public_surface_is_exactly_what_all_says():
    public = {n for n in vars(alphareel) if not n.startswith("_")} - {"errors"}
    submodules = {p.stem for p in (ROOT / "src/alphareel").iterdir()}
    imported = {
        "Any",
        "Callable",
        "Generator",
        "Iterable",
        "Mapping",
        "Path",
        "PathLike",
        "Sequence",
        "TYPE_CHECKING",
        "TypedDict",
        "Unpack",
        "overload",
        "parse_options",
    }
    assert public - submodules - imported == set(alphareel.__all__) - {"errors", "__version__"}


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: p.relative_to(ROOT / "src").as_posix())
def test_a_module_opens_with_a_docstring_and_has_a_telling_name(path):
    assert ast.get_docstring(ast.parse(path.read_text())), "a module opens with a docstring"
    vague = {"utils", "util", "helpers", "helper", "manager", "base", "common", "misc"}
    assert not vague & set(path.relative_to(ROOT / "src").with_suffix("").parts)


# One subject, one stem, in every layer. These modules serve all subjects of their layer.
SHARED = {
    "db": {
        "availability",
        "database",
        "locks",
        "mapping",
        "migrate",
        "notifications",
        "postgres",
        "prepared",
        "tables",
        "transitions",
        "write_errors",
    },
    "http/routes": {"admin", "events", "legacy", "metrics", "models"},
    "http/schemas": {"errors", "fields", "responses", "values"},
}


def stems(folder: str) -> set[str]:
    """Names of the modules and packages in a folder of the package."""
    return {path.stem for path in (ROOT / "src/alphareel" / folder).iterdir() if not path.stem.startswith("_")}


def subject(stem: str) -> str:
    """The first word, without the plural."""
    return stem.partition("_")[0].removesuffix("s")


@pytest.mark.parametrize("folder", ["db", "http/routes"])
def test_a_subject_has_one_stem_in_every_layer(folder):
    service = {subject(path.stem) for path in (ROOT / "src/alphareel/service").rglob("[!_]*") if path.suffix != ".mp4"}
    strangers = {stem for stem in stems(folder) - SHARED[folder] - {"migrations"} if subject(stem) not in service}
    assert not strangers, "name the module for the service subject it belongs to"


def test_a_schema_module_has_the_name_of_its_route():
    routes = {subject(stem) for stem in stems("http/routes")}
    assert not {stem for stem in stems("http/schemas") - SHARED["http/schemas"] if subject(stem) not in routes}


@pytest.mark.parametrize(
    "package", sorted(stems("service") & {p.name for p in (ROOT / "src/alphareel/service").iterdir() if p.is_dir()})
)
def test_tests_of_a_service_subject_have_its_name(package):
    assert list((ROOT / "tests").rglob(f"test_{package.removesuffix('s')}*.py"))


def test_no_assertion_of_a_test_needs_a_quick_machine():
    """A bound of less than twenty seconds is no detector of hangs: a busy machine fails it."""
    timed = re.compile(r"assert (?:time\.)?(?:monotonic|perf_counter|time)\(\) - \w+ <=? ([\d.]+)")
    found = [
        f"{path.relative_to(ROOT)}: {match.group()}"
        for path in (ROOT / "tests").rglob("*.py")
        for match in timed.finditer(path.read_text())
        if float(match.group(1)) < 20
    ]
    assert found == []
