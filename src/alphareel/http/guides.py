"""The pages of docs/ as HTML for the studio, whose folder ``guides`` has links to them; in a wheel these are files."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from itertools import pairwise
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from markdown_it.token import Token

GROUPS = {
    "Start": ("quickstart", "studio", "choose-an-engine", "use-results", "long-clips", "faq"),
    "Integrate": ("webhooks", "migrate-from-removebgvideo", "n8n", "mcp", "library", "cli"),
    "Run": ("deploy", "operate", "capacity", "weights", "licenses"),
    "Look up": ("errors", "settings", "formats", "input", "limitations"),
}
_API = "api"  # the studio has a page of its own for it


@dataclass(frozen=True)
class Guide:
    name: str
    title: str
    group: str


@cache
def list_guides() -> tuple[Guide, ...]:
    """All guides, in the order of the table of contents."""
    return tuple(Guide(name, _title(name), group) for group, names in GROUPS.items() for name in names)


@cache
def render(name: str) -> str | None:
    """HTML of a guide; None if there is none of this name.

    Headings have the ids ``name/anchor``. Links to guides lead to their pages in the studio, links to sites stay, and
    all others are plain text.
    """
    from markdown_it import MarkdownIt  # noqa: PLC0415 - takes a tenth of a second, and few processes need it

    if all(guide.name != name for guide in list_guides()):
        return None
    parser = MarkdownIt("commonmark", {"html": False}).enable("table")
    tokens = parser.parse(_text(name))
    _number_headings(tokens, name)
    for token in tokens:
        token.attrs.pop("style", None)  # alignment of tables: the studio's policy allows no inline styles
        _rewrite_links(token.children or (), name)
    html: str = parser.renderer.render(tokens, parser.options, {})
    # A wide table or line of code scrolls by itself, and the keyboard can reach it.
    html = html.replace("<table>", '<div class="scroll" tabindex="0"><table>').replace("</table>", "</table></div>")
    return html.replace("<pre>", '<pre tabindex="0">')


def _text(name: str) -> str:
    return (files("alphareel.http") / "studio" / "guides" / f"{name}.md").read_text(encoding="utf-8")


def _title(name: str) -> str:
    return _text(name).partition("\n")[0].removeprefix("# ")


def _number_headings(tokens: "Sequence[Token]", name: str) -> None:
    """Give every heading the anchor that GitHub gives it."""
    used: set[str] = set()
    for opening, content in pairwise(tokens):
        if opening.type != "heading_open":
            continue
        anchor = first = re.sub(r"[^\w\- ]", "", content.content.lower()).replace(" ", "-")
        number = 0
        while anchor in used:
            number += 1
            anchor = f"{first}-{number}"
        used.add(anchor)
        opening.attrSet("id", f"{name}/{anchor}")


def _rewrite_links(tokens: "Sequence[Token]", name: str) -> None:
    for number, token in enumerate(tokens):
        if token.type != "link_open":
            continue
        target = _studio_link(str(token.attrGet("href") or ""), name)
        if target is None:
            closing = next(later for later in tokens[number:] if later.type == "link_close")
            token.tag = closing.tag = "span"
            token.attrs = {}
        else:
            token.attrSet("href", target)
            if not target.startswith("#"):
                token.attrs |= {"target": "_blank", "rel": "noopener noreferrer"}


def _studio_link(href: str, name: str) -> str | None:
    """Where a link of the guide ``name`` leads in the studio; None when the package has no such page."""
    if re.match(r"https?://", href):
        return href
    page, _, anchor = href.partition("#")
    linked = page.removesuffix(".md") if page else name
    if linked == _API:
        return "#/reference"
    if all(guide.name != linked for guide in list_guides()):
        return None
    return f"#/guides/{linked}" + (f"/{anchor}" if anchor else "")
