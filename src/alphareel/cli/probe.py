"""``alphareel probe`` and ``alphareel formats``."""

import json
from dataclasses import asdict
from fractions import Fraction
from pathlib import Path
from typing import Annotated

import cyclopts
from rich.table import Table

import alphareel
from alphareel.cli.console import stdout
from alphareel.cli.targets import OWN_FILES, check_source

_AsJson = Annotated[bool, cyclopts.Parameter(name="--json", help="Print the facts as a JSON object.")]
_Source = Annotated[Path, cyclopts.Parameter(help="The video to read.")]


def probe(source: _Source, /, *, as_json: _AsJson = False) -> None:
    """Show size, frame rate, duration, codec, color and audio of SOURCE, and whether it can be processed."""
    check_source(source, "probe")
    facts = asdict(alphareel.probe(source, limits=OWN_FILES))
    if as_json:
        print(json.dumps(facts, default=str, indent=2))  # noqa: T201 - this is the output
        return
    table = Table(show_header=False, box=None)
    for name, value in facts.items():
        table.add_row(name, _cell(value))
    stdout.print(table)


def formats() -> None:
    """List the output formats and whether this installation can write them."""
    from alphareel.media import format

    table = Table("format", "suffix", "alpha", "audio", "state")
    for name in format.format_names():
        form = format.format_named(name)
        table.add_row(
            name,
            form.suffix,
            "yes" if form.supports_alpha else "no",
            "yes" if form.audio else "no",
            form.missing() or "ready",
        )
    stdout.print(table)


def _cell(value: object) -> str:
    match value:
        case None:
            return "-"
        case Fraction():
            return f"{value.numerator}/{value.denominator}"
        case dict():
            return ", ".join(f"{k} {v}" for k, v in value.items())
        case float():
            return f"{value:.3f}"
        case _:
            return str(value)
