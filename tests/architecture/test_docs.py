"""The pages: every link leads somewhere, every page is in the index, and docs/cli.md has every command and option."""

import json
import re
from collections.abc import Iterator
from pathlib import Path

import cyclopts
import pytest

from alphareel.cli.main import app

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
PAGES = sorted(
    [
        *ROOT.glob("*.md"),
        ROOT / "llms.txt",
        *DOCS.rglob("*.md"),
        *ROOT.glob("training/*.md"),
        *ROOT.glob("packages/*/*.md"),
    ]
)
CLI = (DOCS / "cli.md").read_text()


def name(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def without_code(text: str) -> str:
    """The page without fenced blocks, in which # is a comment and brackets are code."""
    return re.sub(r"^ *```.*?^ *```", "", text, flags=re.MULTILINE | re.DOTALL)


def anchors(page: Path) -> set[str]:
    """The fragments that the headings of a page can be reached by, as GitHub forms them."""
    headings = re.findall(r"^#+ (.*)$", without_code(page.read_text()), flags=re.MULTILINE)
    plain = (re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading) for heading in headings)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in plain}


def links(page: Path) -> Iterator[str]:
    """Targets of the links and images of a page that are not URLs."""
    for target in re.findall(r"\]\(([^)\s]+)\)", without_code(page.read_text())):
        if not re.match(r"[a-z]+:", target):
            yield target


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_every_link_of_a_page_leads_to_a_file_and_a_heading(page: Path) -> None:
    broken = []
    for link in links(page):
        path, _, fragment = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        if not target.exists() or (fragment and target.suffix == ".md" and fragment not in anchors(target)):
            broken.append(link)
    assert broken == []


def test_the_address_of_the_service_has_one_name_for_all_programs() -> None:
    """It is ALPHAREEL_BASE_URL in pages, examples, the SDK and the studio."""
    kinds = ("*.md", "*.py", "*.sh", "*.js", "*.json", "*.yaml")
    folders = ("docs", "examples", "src", "packages", "deploy")
    files = [*PAGES, *(path for folder in folders for kind in kinds for path in (ROOT / folder).rglob(kind))]
    assert [name(path) for path in files if re.search(r"\bALPHAREEL_URL\b", path.read_text())] == []


def test_the_index_links_every_page() -> None:
    linked = {(DOCS / link.partition("#")[0]).resolve() for link in links(DOCS / "index.md")}
    pages = {page for page in DOCS.rglob("*.md") if page.parent.name not in {"decisions", "research"}}
    assert {name(page) for page in pages - linked} == {"docs/index.md"}


def test_the_index_of_decisions_links_every_decision() -> None:
    linked = set(links(DOCS / "decisions" / "README.md"))
    pages = {page.name for page in (DOCS / "decisions").glob("0*.md")}
    assert pages - linked == set()


def test_every_decision_has_a_number_of_its_own_in_name_and_title() -> None:
    pages = sorted((DOCS / "decisions").glob("0*.md"))
    numbers = [int(page.name[:4]) for page in pages]
    titles = [int(page.read_text().removeprefix("# ").partition(".")[0]) for page in pages]
    assert numbers == titles == list(range(1, len(pages) + 1))


def commands(parent: cyclopts.App, prefix: str) -> Iterator[tuple[str, cyclopts.App]]:
    """Every command with its full name, subcommands included."""
    for word in parent:
        if not word.startswith("-"):
            yield f"{prefix} {word}", parent[word]
            yield from commands(parent[word], f"{prefix} {word}")


COMMANDS = list(commands(app, "alphareel"))


@pytest.mark.parametrize(("command", "node"), COMMANDS, ids=[command for command, _ in COMMANDS])
def test_every_command_and_option_is_on_the_page(command: str, node: cyclopts.App) -> None:
    options: list[str] = []
    if node.default_command is not None:
        options = [name for argument in node.assemble_argument_collection() for name in argument.names]
    named = [option for option in options if option.startswith("--") and not option.startswith("--no-")]
    assert command in CLI
    assert [option for option in named if option not in CLI] == []


@pytest.mark.parametrize(("command", "node"), COMMANDS, ids=[command for command, _ in COMMANDS])
def test_the_help_of_a_command_explains_every_argument_and_option(command: str, node: cyclopts.App) -> None:
    arguments = [] if node.default_command is None else node.assemble_argument_collection(parse_docstring=True)
    assert node.help
    assert [argument.name for argument in arguments if not argument.parameter.help] == []


@pytest.mark.parametrize("page", [page for page in PAGES if page.parent.name != "decisions"], ids=name)
def test_every_setting_that_a_page_names_exists(page: Path) -> None:
    known = set(re.findall(r"`(ALPHAREEL_\w+)`", (DOCS / "settings.md").read_text() + CLI))
    named = set(re.findall(r"\bALPHAREEL_(?!TEST_)[A-Z_]*[A-Z]\b", page.read_text()))
    assert named - known == set()


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_every_verb_of_the_script_that_a_page_names_exists(page: Path) -> None:
    usage = (ROOT / "dev").read_text().partition("<<'TEXT'")[2].partition("\nTEXT")[0]
    verbs = set(re.findall(r"^  ([a-z-]+)", usage, flags=re.MULTILINE))
    [measures] = re.findall(r"bench WHAT +([a-z |]+):", usage)
    text = page.read_text()
    assert set(re.findall(r"\./dev ([a-z][a-z-]*)", text)) - verbs == set()
    assert set(re.findall(r"\./dev bench ([a-z]+)", text)) - set(measures.split(" | ")) == set()


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_every_block_of_json_or_python_can_be_read(page: Path) -> None:
    for kind, block in re.findall(r"^```(json|python)\n(.*?)^```", page.read_text(), flags=re.MULTILINE | re.DOTALL):
        if kind == "json":
            json.loads(block)
        else:
            compile(block, name(page), "exec")
