"""Finds plug-ins: modules of one of our packages, and modules that other distributions register as entry points.

A plug-in's public name is its file name, or the name of its entry point. Nothing is imported until it is used.
"""

import importlib
import importlib.util
import pkgutil
from collections.abc import Callable
from functools import cache, partial
from importlib.metadata import entry_points
from pathlib import Path
from types import ModuleType


@cache
def discover(package: str, group: str) -> dict[str, Callable[[], ModuleType]]:
    """Loaders of the plug-ins in ``package`` and in the entry point ``group``, sorted by name. Imports none of them.

    Each loader imports and returns the module. A module of ``package`` takes precedence over an entry point of the
    same name, so that no other distribution can replace it.
    """
    loaders: dict[str, Callable[[], ModuleType]] = {point.name: point.load for point in entry_points(group=group)}
    loaders |= {name: partial(importlib.import_module, f"{package}.{name}") for name in names(package)}
    return dict(sorted(loaders.items()))


@cache
def names(package: str) -> tuple[str, ...]:
    """Names of the plug-ins in ``package`` (dotted), sorted. Imports none of them."""
    spec = importlib.util.find_spec(package)
    if spec is None or spec.submodule_search_locations is None:
        raise LookupError(f"{package} is not a package")
    paths = [str(Path(p)) for p in spec.submodule_search_locations]
    return tuple(sorted(m.name for m in pkgutil.iter_modules(paths) if not m.name.startswith("_")))


def module(package: str, name: str) -> ModuleType:
    """Import the plug-in ``name`` of ``package``. Raises LookupError when there is none."""
    if name not in names(package):
        raise LookupError(f"{package} has no {name!r}; it has {', '.join(names(package))}")
    return importlib.import_module(f"{package}.{name}")
