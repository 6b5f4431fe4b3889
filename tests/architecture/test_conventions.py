"""Rules of the house that no linter knows: what an import may load, sizes, the public surface, words of the docs."""

import ast
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
def test_a_module_says_what_it_is_and_can_be_held_in_the_head(path):
    text = path.read_text()
    tree = ast.parse(text)
    assert ast.get_docstring(tree), "a module opens with what it is"
    assert text.count("\n") <= 400, "split it by concept"
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            assert node.end_lineno - node.lineno < 60, f"{node.name} is longer than a screen"


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: p.relative_to(ROOT / "src").as_posix())
def test_rooms_have_true_names(path):
    assert not {"utils", "util", "helpers", "helper", "manager", "base", "common", "misc"} & set(
        path.with_suffix("").parts
    )
