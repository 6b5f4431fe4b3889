"""Checks options against the installed engines and formats. Loads no network and no codec."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from alphareel.domain.errors import FieldProblem, FormatUnavailable, InvalidRequest
from alphareel.domain.options import Options
from alphareel.matting import priorities, tiers
from alphareel.media.format import format_named, format_names


@dataclass(frozen=True)
class Capabilities:
    """JobCapabilities of the installed engines, with the weights in ``models_dir``."""

    models_dir: Path | None
    orders: priorities.Priorities = field(default_factory=lambda: priorities.DEFAULT_PRIORITIES)

    def check(self, requested: Sequence[Options]) -> tuple[str, ...]:
        for options in requested:
            self.check_format(options.output_format)
        return tiers.expected_warnings(requested[0], self.models_dir, self.orders)

    def check_format(self, name: str) -> None:
        installed = format_names()
        if name not in installed:
            raise InvalidRequest(
                f"This server does not write {name}.",
                details=[FieldProblem("output_format", f"must be one of {', '.join(installed)}.")],
            )
        reason = format_named(name).missing()
        if reason is not None:
            raise FormatUnavailable(
                f"{name} cannot be written here: {reason}.", hint="GET /v1/models lists the formats that can."
            )


def writable_formats() -> tuple[str, ...]:
    """Names of the output formats that can be written here, sorted."""
    return tuple(name for name in format_names() if format_named(name).missing() is None)


def output_formats() -> tuple[str, ...]:
    """Names of the output formats, sorted."""
    return format_names()


def engine_names() -> tuple[str, ...]:
    """Names of all engines, whether they can run here or not."""
    return priorities.names()
