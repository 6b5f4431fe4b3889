"""What can be fetched: the weights that the engines' own files name. Opens no network."""

from alphareel import plugins
from alphareel.domain.errors import InvalidRequest
from alphareel.matting import tiers
from alphareel.matting.weights import Weights


def catalog() -> tuple[Weights, ...]:
    """The weights of every engine that can be fetched, by name."""
    found = (getattr(plugins.module(tiers.PACKAGE, name), "WEIGHTS", None) for name in tiers.names())
    return tuple(w for w in found if isinstance(w, Weights) and w.files)


def weights_named(name: str) -> Weights:
    """Raises InvalidRequest with the names there are."""
    known = {w.name: w for w in catalog()}
    if name not in known:
        raise InvalidRequest(
            f"There are no weights {name[:60]!r} to fetch.", hint=f"There are {', '.join(known) or 'none'}."
        )
    return known[name]
