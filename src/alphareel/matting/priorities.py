"""The order in which engines serve the tiers. Imports no engine and no NumPy: every process of the service reads it."""

from collections.abc import Mapping
from typing import TypeAlias, cast

from alphareel import plugins
from alphareel.domain.errors import InvalidRequest
from alphareel.domain.options import TIERS, Tier

PACKAGE = "alphareel.matting.models"
ENTRY_POINT_GROUP = "alphareel.models"

Priorities: TypeAlias = Mapping[Tier, tuple[str, ...]]
"""Engines by tier in order of preference. The first one that can run serves the tier."""

# Best first. "original" and "light" promise any subject, "light" and "human" promise speed. Networks that the user
# installed take precedence over a bundled one for the same subject. docs/models/ says what each engine is good for.
DEFAULT_PRIORITIES: Priorities = {
    "original": ("birefnet", "birefnet_lite", "subject", "rvm_resnet50", "rvm", "modnet", "builtin"),
    "light": ("subject", "rvm", "builtin"),
    "human": ("rvm_resnet50", "rvm", "modnet", "birefnet_portrait", "builtin"),
    "pro": ("prompted",),
}


def names() -> tuple[str, ...]:
    """Names of all engines, including those of other distributions."""
    return tuple(plugins.discover(PACKAGE, ENTRY_POINT_GROUP))


def parse_priorities(text: str) -> Priorities:
    """Parse a setting such as ``original=birefnet,rvm;human=rvm``. Tiers it omits keep their defaults.

    Raises InvalidRequest for an unknown tier or engine.
    """
    priorities = dict(DEFAULT_PRIORITIES)
    for part in filter(None, (p.strip() for p in text.split(";"))):
        tier, _, listed = part.partition("=")
        engines = tuple(name.strip() for name in listed.split(",") if name.strip())
        unknown = [name for name in engines if name not in names()]
        if tier.strip() not in TIERS or unknown or not engines:
            raise InvalidRequest(
                f"{part[:100]!r} is not a tier and its engines.", hint=f"Engines are {', '.join(names())}."
            )
        priorities[cast(Tier, tier.strip())] = engines
    return priorities
