"""The weights that can be downloaded, as the model files declare them. Makes no network requests."""

from alphareel.domain.errors import InvalidRequest
from alphareel.matting import priorities, tiers
from alphareel.matting.weights import Weights


def catalog() -> tuple[Weights, ...]:
    """The downloadable weights of all engines, sorted by name."""
    declared = (getattr(tiers.load_module(name), "WEIGHTS", None) for name in priorities.names())
    return tuple(w for w in declared if isinstance(w, Weights) and w.files)


def weights_named(name: str) -> Weights:
    """The weights with this name. Raises InvalidRequest when there are none."""
    known = {w.name: w for w in catalog()}
    if name not in known:
        raise InvalidRequest(
            f"There are no weights {name[:60]!r} to download.", hint=f"There are {', '.join(known) or 'none'}."
        )
    return known[name]
