"""Every code block of the README and of docs/ is executed by a test, or is listed here with the reason why not.

Those that are not executed are read as far as possible: commands by their own parser, shell by bash, files by name.
"""

import configparser
import re
import shlex
import shutil
import subprocess
import tomllib
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import NamedTuple

import pytest
import yaml

from alphareel.cli.main import app

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]

#: The test that executes the blocks of a language on a page, unless they are listed below.
EXECUTED = {
    ("README.md", "sh"): "tests/integration/test_documented_commands.py",
    ("README.md", "python"): "tests/e2e/test_documented_python.py",
    ("docs/api.md", "sh"): "tests/http/test_documentation.py",
    ("docs/api.md", "python"): "tests/http/test_documentation.py",
    ("docs/api.md", "js"): "tests/http/test_documentation.py",
    ("docs/api.md", "text"): "tests/http/test_documentation.py",
    ("docs/cli.md", "text"): "tests/integration/test_documented_commands.py",
    ("docs/deploy.md", "sh"): "tests/integration/test_documented_commands.py",
    ("docs/deploy.md", "nginx"): "tests/architecture/test_deploy.py",
    ("docs/formats.md", "text"): "tests/integration/test_documented_commands.py",
    ("docs/formats.md", "python"): "tests/e2e/test_documented_python.py",
    ("docs/library.md", "python"): "tests/e2e/test_documented_python.py",
    ("docs/migrate-from-removebgvideo.md", "text"): "tests/e2e/test_documented_python.py",
    ("docs/quickstart.md", "text"): "tests/integration/test_documented_commands.py",
    ("docs/quickstart.md", "python"): "tests/e2e/test_documented_python.py",
    ("docs/use-results.md", "text"): "tests/integration/test_documented_ffmpeg.py",
    ("docs/studio.md", "text"): "tests/e2e/test_studio.py",
    ("docs/webhooks.md", "python"): "tests/e2e/test_documented_python.py",
    ("docs/webhooks.md", "text"): "tests/http/test_documentation.py",
}
_CONTAINERS = (
    "needs a container engine. The files are checked and executed in tests/architecture/test_deploy.py, tests/e2e"
)
_SYNTAX = "the syntax of a command, no command"
#: By page and how the block begins: executed by another test, or why it is executed by none.
OTHERS = {
    ("README.md", "./dev demo"): "tests/e2e/test_demo.py",
    ("README.md", "./dev serve"): "runs until it is stopped; tests/e2e start the service that it starts",
    ("README.md", "curl -H"): "tests/http/test_documentation.py",
    ("README.md", "from alphareel_client"): "tests/http/test_documentation.py",
    ("docs/api.md", "ALPHAREEL_BASE_URL="): "what the other blocks read; the test sets both",
    ("docs/api.md", '{"time": 1.0'): "a body; read as JSON",
    ("docs/api.md", '{\n  "event"'): "a body; read as JSON",
    ("docs/api.md", "expected ="): "tests/e2e/test_documented_python.py",
    ("docs/architecture.md", "            thread"): "a drawing",
    ("docs/architecture.md", "alphareel serve    "): "a drawing",
    ("docs/capacity.md", "workers = "): "a formula",
    ("docs/choose-an-engine.md", "alphareel cut"): "needs weights that are downloaded",
    ("docs/cli.md", "alphareel cut SOURCE"): _SYNTAX,
    ("docs/cli.md", "alphareel watch SOURCE"): _SYNTAX,
    ("docs/cli.md", "alphareel export MATTE"): _SYNTAX,
    ("docs/cli.md", "alphareel proof CLIP"): _SYNTAX,
    ("docs/cli.md", "alphareel correct MATTE"): _SYNTAX,
    ("docs/cli.md", "alphareel report MATTE"): _SYNTAX,
    ("docs/cli.md", "alphareel probe SOURCE"): _SYNTAX,
    ("docs/cli.md", "alphareel sheet SOURCE"): _SYNTAX,
    ("docs/deploy.md", "docker build"): _CONTAINERS,
    ("docs/deploy.md", "cp deploy/cluster.env.example"): _CONTAINERS,
    ("docs/deploy.md", "helm install"): "tests/architecture/test_deploy.py renders the chart with these values",
    ("docs/deploy.md", "useradd"): "changes the machine",
    ("docs/deploy.md", "ALPHAREEL_DATA_DIR="): "a file of settings; their names are checked",
    (
        "docs/deploy.md",
        "sudo -u",
    ): "needs the user of the machine; keys are created in tests/unit/test_api_keys_command.py",
    ("docs/deploy.md", '[{"AllowedOrigins"'): "read as JSON",
    ("docs/deploy.md", "pip install"): "needs three servers; tests/e2e/test_deploy_cluster.py starts them",
    ("docs/deploy.md", "export ALPHAREEL_RUNNER_TOKEN"): "needs two machines; tests/e2e/test_runners.py joins a server",
    ("docs/deploy.md", "alphareel move"): "needs three servers; tests/e2e/test_transfer.py moves an installation",
    ("docs/errors.md", '{\n  "error"'): "a body; read as JSON",
    ("docs/formats.md", "precision mediump float"): "a shader; no GPU is needed for any test",
    ("docs/glossary.md", "accepted access"): "a list of words, read by tests/architecture/test_glossary.py",
    ("docs/glossary.md", "alphareel apng"): "a list of words, read by tests/architecture/test_glossary.py",
    ("docs/licenses.md", "./configure"): "builds FFmpeg",
    ("docs/mcp.md", "pip install"): "an installation; the extra is checked, the server runs in tests/http/test_mcp.py",
    ("docs/mcp.md", '{\n  "mcpServers"'): "read as JSON",
    ("docs/migrate-from-removebgvideo.md", "- from"): "a difference of two lines",
    ("docs/operate.md", "scrape_configs"): "read as YAML",
    ("docs/operate.md", "client's span"): "a drawing",
    ("docs/quickstart.md", "git clone"): "needs the address of the repository; tests/e2e/test_demo.py runs ./dev",
    ("docs/quickstart.md", "<video"): "read as HTML; tests/e2e/test_browser.py plays results",
    ("docs/quickstart.md", "alphareel serve"): "runs until it is stopped; tests/e2e start it",
    ("docs/quickstart.md", "export ALPHAREEL_BASE_URL"): "tests/http/test_documentation.py",
    ("docs/research/builtin.md", "training/reproduce.sh"): "trains for hours",
    ("docs/use-results.md", "<style"): "read as HTML; tests/e2e/test_browser.py plays results",
    ("docs/weights.md", "alphareel models"): "downloads weights; tests/unit/test_cli_models.py has a server of them",
    ("docs/weights.md", "alphareel models import"): "needs weights; tests/unit/test_cli_models.py imports some",
}
_COMMAND = re.compile(r"^(?:sudo -u \w+ )?(?:env )?(?:\w+=\S+ )*(?:\S*/)?alphareel (\w.*)$")
_PLACEHOLDER = re.compile(r"[\[<]|\b[A-Z]{4,}\b")


class Block(NamedTuple):
    page: str
    line: int
    language: str
    text: str

    @property
    def commands(self) -> list[str]:
        """Its lines, with continued ones joined and comments removed."""
        lines = self.text.replace("\\\n", " ").splitlines()
        return [re.sub(r"\s+#.*", "", line).strip() for line in lines if not line.startswith("#")]


def blocks_of(page: Path) -> Iterator[Block]:
    text = page.read_text()
    for found in re.finditer(r"^( *)```(\S*)\n(.*?)^ *```$", text, flags=re.MULTILINE | re.DOTALL):
        content = re.sub(rf"^{found[1]}", "", found[3], flags=re.MULTILINE)
        yield Block(page.relative_to(ROOT).as_posix(), text.count("\n", 0, found.start()) + 1, found[2], content)


BLOCKS = [block for page in PAGES for block in blocks_of(page)]
SHELL = [block for block in BLOCKS if block.language == "sh"]


def each(blocks: list[Block]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("block", blocks, ids=[f"{block.page}:{block.line}" for block in blocks])


def listed(block: Block) -> list[tuple[str, str]]:
    """Keys of OTHERS, the most exact one first."""
    found = [(page, start) for page, start in OTHERS if page == block.page and block.text.startswith(start)]
    return sorted(found, key=lambda key: len(key[1]), reverse=True)


@each(BLOCKS)
def test_every_block_is_executed_or_listed_with_a_reason(block: Block) -> None:
    assert listed(block) or (block.page, block.language) in EXECUTED, "execute it in a test, or say here why not"


def test_nothing_is_listed_that_is_not_there() -> None:
    used = {listed(block)[0] for block in BLOCKS if listed(block)}
    assert set(OTHERS) - used == set()
    assert set(EXECUTED) - {(block.page, block.language) for block in BLOCKS if not listed(block)} == set()


def test_every_test_that_is_named_reads_the_page() -> None:
    named = {*((page, test) for (page, _), test in EXECUTED.items())}
    named |= {(page, test) for (page, _), test in OTHERS.items() if re.fullmatch(r"tests/\S+\.py", test)}
    for page, test in named - {("docs/studio.md", "tests/e2e/test_studio.py"), ("README.md", "tests/e2e/test_demo.py")}:
        assert page in (ROOT / test).read_text(), (page, test)
    for reason in OTHERS.values():
        assert all((ROOT / path).exists() for path in re.findall(r"tests/[\w/]+(?:\.py)?", reason)), reason


@each(SHELL)
def test_every_shell_block_is_shell(block: Block) -> None:
    filled = re.sub(r"<[\w ]+>", "x", block.text)
    done = subprocess.run(["bash", "-n"], input=filled, capture_output=True, text=True, timeout=100, check=False)
    assert (done.returncode, done.stderr) == (0, "")


@each([block for block in BLOCKS if block.language in ("sh", "text", "")])
def test_every_command_exists_with_its_options(block: Block) -> None:
    for line in block.commands:
        if (found := _COMMAND.match(line)) is None or (block.page, block.language) == ("docs/glossary.md", "text"):
            continue
        words = shlex.split(found[1])
        if _PLACEHOLDER.search(found[1]) or block.text.startswith("alphareel serve     "):
            assert words[0] in app, line
            continue
        for part in " ".join(shlex.quote(word) for word in words).split(" '&&' alphareel "):
            app.parse_args(shlex.split(part), exit_on_error=False, print_error=False)


@each([block for block in BLOCKS if block.language in ("sh", "text")])
def test_what_blocks_name_of_this_project_is_there(block: Block) -> None:
    targets = set(re.findall(r"^(\w+)\)", (ROOT / "dev").read_text(), flags=re.MULTILINE))
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    client = tomllib.loads((ROOT / "packages/alphareel-client/pyproject.toml").read_text())["project"]
    extras = {"alphareel": project["optional-dependencies"], "alphareel-client": client["optional-dependencies"]}
    for line in block.commands:
        if found := re.match(r"\./dev (\w+)", line):
            assert found[1] in targets, line
        for name, wanted in re.findall(r"pip install ['\"](alphareel[\w-]*)\[([\w,]+)\]", line):
            assert set(wanted.split(",")) <= set(extras[name]), line
        for path in re.findall(r"(?<![\w/.])(?:deploy|examples|training)/[\w./-]+", line):
            assert (ROOT / path).exists() or (ROOT / f"{path}.example").exists(), line
        if found := re.search(r"docker build .*--target (\w+)", line):
            assert re.search(rf"^FROM .* AS {found[1]}$", (ROOT / "deploy/Dockerfile").read_text(), re.MULTILINE), line


def test_the_settings_that_blocks_set_exist() -> None:
    known = set(
        re.findall(r"`(ALPHAREEL_\w+)`", (ROOT / "docs/settings.md").read_text() + (ROOT / "docs/cli.md").read_text())
    )
    of_clients = {"ALPHAREEL_BASE_URL"}
    for block in BLOCKS:
        assert set(re.findall(r"\b(ALPHAREEL_[A-Z_]+)=", block.text)) <= known | of_clients, block.page


def test_the_variables_of_the_cluster_are_those_of_its_example() -> None:
    """As `docker compose --env-file` reads them."""
    parser = configparser.ConfigParser()
    parser.read_string("[env]\n" + (ROOT / "deploy/cluster.env.example").read_text())
    needed = re.findall(r"\$\{(\w+):\?", (ROOT / "deploy/compose.cluster.yaml").read_text())
    assert {name.lower() for name in needed} <= set(parser["env"])


class Tags(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: object) -> None:
        self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


@each([block for block in BLOCKS if block.language in ("yaml", "html")])
def test_every_block_of_yaml_or_html_can_be_read(block: Block) -> None:
    if block.language == "yaml":
        assert yaml.safe_load(block.text)
        return
    tags = Tags()
    tags.feed(block.text)
    tags.close()
    assert tags.open == []


@pytest.mark.skipif(shutil.which("node") is None, reason="Node is not installed")
@each([block for block in BLOCKS if block.language == "js"])
def test_every_block_of_javascript_can_be_read(block: Block, tmp_path: Path) -> None:
    (tmp_path / "block.mjs").write_text(block.text)
    subprocess.run(["node", "--check", tmp_path / "block.mjs"], check=True, timeout=100)
