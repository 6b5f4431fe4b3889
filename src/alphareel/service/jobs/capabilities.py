"""Checks options against the installed engines and formats. Loads no network and no codec."""

from dataclasses import dataclass, field
from pathlib import Path

from alphareel import plugins
from alphareel.domain.errors import FieldProblem, InvalidRequest
from alphareel.domain.options import Options
from alphareel.matting import tiers

_FORMATS = "alphareel.media.formats"


@dataclass(frozen=True)
class Capabilities:
    """JobCapabilities of the installed engines, with the weights in ``models_dir``."""

    models_dir: Path | None
    orders: tiers.Orders = field(default_factory=lambda: tiers.ENGINES)

    def check(self, options: Options) -> tuple[str, ...]:
        self._check_format(options.output_format)
        return tiers.expected(options, self.models_dir, self.orders)

    def _check_format(self, name: str) -> None:
        installed = plugins.names(_FORMATS)
        if name not in installed:
            raise InvalidRequest(
                f"This server does not write {name}.",
                details=[FieldProblem("output_format", f"must be one of {', '.join(installed)}.")],
            )
