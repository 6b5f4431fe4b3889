"""Output formats: what a format is, and how one is found by name or by file suffix.

A format is a module of ``alphareel.media.formats``, or a module that another distribution registers under the entry
point group ``alphareel.formats``. The module defines ``FORMAT``. The module name, or the entry point's name, is the
public name of the format. All facts about a format are stated there and nowhere else.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, Literal, TypeAlias

from alphareel import plugins
from alphareel.domain.clip import AlphaKind
from alphareel.domain.errors import FieldProblem, InvalidRequest
from alphareel.domain.options import Options, Quality
from alphareel.domain.parsing import parse_options as parse_fields
from alphareel.domain.parsing import parse_output as parse_item
from alphareel.domain.parsing import parse_outputs as parse_list
from alphareel.media.join import Join
from alphareel.media.output_file import EncoderFactory, OutputFile, Target
from alphareel.media.poster_file import PosterFile
from alphareel.media.splice import Splicer

PACKAGE, ENTRY_POINTS = "alphareel.media.formats", "alphareel.formats"
AlphaSupport: TypeAlias = Literal["optional", "required", "unsupported"]
_FOR_ALPHA = "Choose webm, mov, gif, webp or png_sequence, or set a background."


@dataclass(frozen=True)
class Format:
    """An output format.

    ``suffix``: with its dot (".webm"). ``mime``: MIME type of the file; formats that share a suffix share it.
    ``alpha``: whether an output can, must or cannot have alpha. ``alpha_kind``: how the file stores it.
    ``audio``: the file can hold audio. ``encoder``: opens the encoder that writes one output.
    ``implied_by_suffix``: the suffix alone selects this format. One format of a suffix has it; users select the
    others by name. ``max_side``: largest width or height by quality, pixels; no limit for the qualities left out.
    ``still``: the output is one frame of the run. ``join``: concatenates chunks of an output; None where chunks
    cannot be concatenated. ``splicer``: replaces frames in a finished output; None where all of it has to be encoded
    again. ``bytes_per_pixel``: typical output size divided by the pixels of its frames; for
    estimates. ``other_suffixes``: suffixes of other formats that files of this one are commonly named with.
    ``missing``: why this machine cannot write the format, None where it can.
    """

    name: str
    suffix: str
    mime: str
    audio: bool
    encoder: EncoderFactory
    alpha: AlphaSupport = "optional"
    alpha_kind: AlphaKind = "straight"
    implied_by_suffix: bool = True
    max_side: Mapping[Quality, int] = field(default_factory=dict)
    still: bool = False
    join: Join | None = None
    splicer: Splicer | None = None
    bytes_per_pixel: float = 0.1
    other_suffixes: frozenset[str] = frozenset()
    missing: Callable[[], str | None] = lambda: None

    @property
    def supports_alpha(self) -> bool:
        return self.alpha != "unsupported"

    def open(self, target: Target) -> OutputFile:
        """Start writing an output. Raises InvalidRequest, FormatUnavailable and StorageFailed."""
        self.check_alpha(has_alpha=target.has_alpha)
        return (PosterFile if self.still else OutputFile)(target, self.encoder)

    def check_alpha(self, *, has_alpha: bool) -> None:
        """Raise InvalidRequest when the format cannot hold an output with, or without, alpha."""
        if has_alpha and self.alpha == "unsupported":
            raise InvalidRequest(
                f"{self.name} carries no alpha, so a transparent background cannot be kept.",
                hint=_FOR_ALPHA,
                details=[FieldProblem("output_format", f"{self.name} carries no alpha. {_FOR_ALPHA}")],
            )
        if not has_alpha and self.alpha == "required":
            raise InvalidRequest(
                f"{self.name} requires a transparent background.",
                hint="Leave the background transparent, or choose mp4.",
                details=[FieldProblem("output_format", "needs a transparent background")],
            )


def format_names() -> tuple[str, ...]:
    """Names of all formats, sorted. Imports none of them."""
    return tuple(plugins.discover(PACKAGE, ENTRY_POINTS))


def format_named(name: str) -> Format:
    """The format with this name. Raises InvalidRequest with the known names."""
    load = plugins.discover(PACKAGE, ENTRY_POINTS).get(name)
    if load is None:
        known = ", ".join(format_names())
        raise InvalidRequest(
            f"There is no format {name!r}.",
            hint=f"Choose one of {known}.",
            details=[FieldProblem("output_format", f"must be one of {known}; got {name!r}.")],
        )
    result: Format = load().FORMAT
    return result


def check_suffix(path: Path, format_name: str) -> None:
    """Raise InvalidRequest when the suffix of ``path`` belongs to other formats."""
    form, suffix = format_named(format_name), path.suffix.lower()
    if suffix in {form.suffix, *form.other_suffixes}:
        return
    if suffix in {format_named(name).suffix for name in format_names()}:
        raise InvalidRequest(
            f"The format {format_name} does not match the suffix of {path}.",
            hint=f"Name the file {path.stem}{form.suffix}, or omit the format: it follows from the suffix.",
        )


def format_for_suffix(suffix: str) -> Format:
    """The format that a file suffix (".webm") implies. Raises InvalidRequest with the known suffixes."""
    implied = {form.suffix: form for form in map(format_named, format_names()) if form.implied_by_suffix}
    if suffix.lower() not in implied:
        raise InvalidRequest(f"No format is written to {suffix or 'a file without suffix'}.",
                             hint=f"Use one of {', '.join(sorted(implied))}.")  # fmt: skip
    return implied[suffix.lower()]


@cache
def mime_types() -> Mapping[str, str]:
    """MIME type by file suffix, of all formats."""
    return {form.suffix: form.mime for form in map(format_named, format_names())}


def parse_options(values: Mapping[str, Any], *, stored: Options | None = None) -> Options:
    """Options of a request body, checked against the formats that exist here.

    Like ``domain.parsing.parse_options``. Also raises InvalidRequest for an unknown format, and for a format that does
    not fit the background.
    """
    options = parse_fields(values, stored=stored, formats=format_names())
    check_format(options)
    return options


def parse_shared(values: Mapping[str, Any], stored: Options) -> Options:
    """Like ``parse_options``, without checking the format: for what several outputs have in common."""
    return parse_fields(values, stored=stored, formats=format_names())


def parse_outputs(value: Any, shared: Options) -> tuple[Options, ...]:
    """Like ``domain.parsing.parse_outputs``, checked like ``parse_options``."""
    parsed = parse_list(value, shared, formats=format_names())
    for number, options in enumerate(parsed):
        _check_output(options, f"outputs.{number}.")
    return parsed


def parse_output(values: Mapping[str, Any], shared: Options) -> Options:
    """Like ``domain.parsing.parse_output``, checked like ``parse_options``."""
    options = parse_item(values, shared, formats=format_names())
    _check_output(options, "")
    return options


def _check_output(options: Options, prefix: str) -> None:
    try:
        check_format(options)
    except InvalidRequest as error:
        details = [FieldProblem(f"{prefix}format", detail.message) for detail in error.details]
        raise InvalidRequest(error.message, hint=error.hint, details=details) from None


def check_format(options: Options) -> None:
    """Raise InvalidRequest when ``output_format`` is unknown or does not fit the background."""
    format_named(options.output_format).check_alpha(has_alpha=options.background.type == "transparent")
