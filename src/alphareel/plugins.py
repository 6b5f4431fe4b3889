"""A plug-in is a file and its file name is its public name; nothing heavy is imported until it is loaded."""

import importlib
import importlib.util
import pkgutil
from functools import cache
from pathlib import Path
from types import ModuleType


@cache
def names(package: str) -> tuple[str, ...]:
    """Public names of the plug-ins in ``package`` (dotted), sorted; imports none of them."""
    spec = importlib.util.find_spec(package)
    if spec is None or spec.submodule_search_locations is None:
        raise LookupError(f"{package} is no package")
    paths = [str(Path(p)) for p in spec.submodule_search_locations]
    return tuple(sorted(m.name for m in pkgutil.iter_modules(paths) if not m.name.startswith("_")))


def module(package: str, name: str) -> ModuleType:
    """Import the plug-in ``name`` of ``package``; LookupError when there is none."""
    if name not in names(package):
        raise LookupError(f"{package} has no {name!r}; it has {', '.join(names(package))}")
    return importlib.import_module(f"{package}.{name}")
