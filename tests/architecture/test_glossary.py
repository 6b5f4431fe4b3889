"""The nouns of the code: docs/glossary.md lists them, and this module reads it."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "glossary.md").read_text()
ROOTS = [ROOT / "src", *ROOT.glob("packages/*/src")]
SOURCES = sorted(path for root in ROOTS for path in root.rglob("*.py") if "versions" not in path.parts)
# Retired for classes only: the pipeline has stages, and functions and modules may name them.
RETIRED_FOR_CLASSES = {"stage"}


def section(title: str) -> str:
    """The text below a second-level heading of the glossary."""
    return PAGE.split(f"\n## {title}\n", 1)[1].split("\n## ", 1)[0]


def first_column(text: str) -> list[str]:
    """The first cells of every table in ``text``, without the header and the rule below it."""
    cells = re.findall(r"^\| ([^|]+?) \|", text, flags=re.MULTILINE)
    return [cell for cell in cells if cell not in {"noun", "retired"} and not cell.startswith("---")]


def split_words(name: str) -> list[str]:
    """The lower-case words of a CamelCase or snake_case name: ``_ApiKeyStore`` is api, key, store."""
    parts = re.findall(r"[A-Z]+(?![a-z])[0-9]*|[A-Z]?[a-z]+[0-9]*|[a-z]*[0-9]+", name)
    return [part.lower() for part in parts]


def singular(word: str) -> str:
    """A plain guess at the singular, good enough to compare two spellings of one noun."""
    if word.endswith("ies") and len(word) > 4:
        return word[:-3] + "y"
    return word[:-1] if word.endswith("s") and not word.endswith("ss") else word


def vocabulary() -> set[str]:
    """Every word that a class or module name may use, in the singular."""
    nouns = " ".join(first_column(PAGE.split("\n## Plain words\n", 1)[0]))
    plain = " ".join(re.findall(r"```text\n(.*?)```", section("Plain words"), flags=re.DOTALL))
    return {singular(word.lower()) for word in re.findall(r"[A-Za-z0-9]+", f"{nouns} {plain}")}


def retired_words() -> list[str]:
    """Regular expressions, one for each retired word."""
    cells = ", ".join(first_column(section("Retired words")))
    words = {re.sub(r"\s*\(.*?\)", "", word) for word in cells.split(", ")}
    return sorted(re.escape(word).replace(r"\*", r"\w*") for word in words if word)


VOCABULARY = vocabulary()
RETIRED = retired_words()


def defined_names(path: Path) -> Iterator[tuple[str, str]]:
    """Pairs of kind and name: the module, its packages, and each class and function in it."""
    for part in Path(short(path)).with_suffix("").parts:
        yield "module", part
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ClassDef):
            yield "class", node.name
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield "function", node.name


def is_retired(kind: str, word: str) -> bool:
    match = next((pattern for pattern in RETIRED if re.fullmatch(pattern, word)), None)
    return match is not None and (kind == "class" or match not in RETIRED_FOR_CLASSES)


def short(path: Path) -> str:
    """The path below its source root: alphareel/db/jobs.py."""
    return next(path.relative_to(root).as_posix() for root in ROOTS if path.is_relative_to(root))


@pytest.mark.parametrize("path", SOURCES, ids=short)
def test_class_and_module_names_use_words_of_the_glossary(path: Path) -> None:
    unknown = {
        f"{kind} {name}: {word}"
        for kind, name in defined_names(path)
        if kind != "function"
        for word in split_words(name)
        if singular(word) not in VOCABULARY
    }
    assert not unknown, "use a word of docs/glossary.md, or add the noun there"


@pytest.mark.parametrize("path", SOURCES, ids=short)
def test_no_name_uses_a_retired_word(path: Path) -> None:
    retired = {
        f"{kind} {name}: {word}"
        for kind, name in defined_names(path)
        for word in split_words(name)
        if is_retired(kind, word)
    }
    assert not retired, "docs/glossary.md says what to use instead"


def test_no_word_is_both_allowed_and_retired() -> None:
    both = {word for word in VOCABULARY for pattern in RETIRED if re.fullmatch(pattern, word)}
    assert both <= RETIRED_FOR_CLASSES


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("_ApiKeyStore", ["api", "key", "store"]),
        ("rvm_resnet50", ["rvm", "resnet50"]),
        ("RemoveBGVideoClient", ["remove", "bg", "video", "client"]),
        ("png_sequence", ["png", "sequence"]),
        ("s3", ["s3"]),
        ("SSEStream", ["sse", "stream"]),
    ],
)
def test_names_are_split_into_words(name: str, words: list[str]) -> None:
    assert split_words(name) == words
