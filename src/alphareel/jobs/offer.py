"""What this machine can make, asked of the engines and formats that are here; loads no network and no codec."""

from dataclasses import dataclass, field
from pathlib import Path

from alphareel import registry
from alphareel.domain.errors import FieldProblem, InvalidRequest, ModelUnavailable
from alphareel.domain.options import Options
from alphareel.matting import tiers

_FORMATS = "alphareel.media.formats"


@dataclass(frozen=True)
class LocalOffer:
    """Offer over the engines beside this code and the weights in ``models_dir``."""

    models_dir: Path | None
    orders: tiers.Orders = field(default_factory=lambda: tiers.ENGINES)

    def check(self, options: Options) -> None:
        self._check_format(options.output_format)
        if options.engine is not None:
            self._check_engine(options.engine)
        elif tiers.serving(options.model, self.models_dir, self.orders) is None:
            raise ModelUnavailable(
                f"No engine on this server serves the model {options.model}.",
                hint="Choose one that GET /v1/models shows.",
            )

    def _check_format(self, name: str) -> None:
        here = registry.names(_FORMATS)
        if name not in here:
            raise InvalidRequest(
                f"This server does not write {name}.",
                details=[FieldProblem("output_format", f"must be one of {', '.join(here)}.")],
            )

    def _check_engine(self, name: str) -> None:
        offers = {offer.spec.name: offer for offer in tiers.offer(self.models_dir)}
        if name not in offers:
            raise InvalidRequest(
                f"There is no engine {name!r}.",
                details=[FieldProblem("engine", f"must be one of {', '.join(offers)}.")],
            )
        reason = offers[name].reason
        if reason is not None:
            raise ModelUnavailable(f"The engine {name} cannot run on this server: {reason}")
