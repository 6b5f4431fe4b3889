"""What the groups of settings are made of: their base class, and the types of their fields."""

import ipaddress
import re
from typing import Annotated, Any, TypeGuard

from pydantic import BaseModel, BeforeValidator, ConfigDict, ValidationInfo, field_validator

from alphareel.service.jobs.models import QUEUES

MIB = 1024 * 1024
GIB = 1024 * MIB

MIN_SECRET = 8  # bytes or characters
MAX_DATABASE_SECONDS = 86_400  # databases take their timeouts as milliseconds in 32 bits
_MAX_SECONDS = 10 * 366 * 86_400  # like the longest retention: sums with times of the calendar stay in its range
_MAX_NUMBER = 10**18  # fits into 64 bits, as databases and limits of processes need
_UNITS = {
    **{unit: 1000**n for n, unit in enumerate(("b", "kb", "mb", "gb", "tb"))},
    **{unit: 1024**n for n, unit in enumerate(("kib", "mib", "gib", "tib"), 1)},
}


def _networks(value: Any) -> Any:
    return tuple(_network(part.strip()) for part in value.split(",") if part.strip()) if _is_text(value) else value


def _network(text: str) -> ipaddress.IPv4Network | ipaddress.IPv6Network:
    try:
        network = ipaddress.ip_network(text, strict=False)
    except ValueError:
        raise ValueError(
            f"must be networks such as 10.0.0.0/8 or fd00::/8, separated by commas; got {text!r}"
        ) from None
    if "/" in text and ipaddress.ip_address(text.partition("/")[0]) != network.network_address:
        raise ValueError(f"must be networks, and {text} is an address in one; write {network}")
    return network


def _size(value: Any) -> Any:
    if not _is_text(value):
        return value
    match = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?)\s*([a-z]*)", value.strip().lower())
    unit = _UNITS.get(match[2] or "b") if match else None
    if match is None or unit is None or (unit == 1 and "." in match[1]):
        raise ValueError(f"must be a number of bytes, or one with KB, MB, GB, KiB, MiB or GiB; got {value[:40]!r}")
    return round(float(match[1]) * unit) if "." in match[1] else int(match[1]) * unit


def _is_text(value: Any) -> TypeGuard[str]:
    return isinstance(value, str)


def _queues(value: Any) -> Any:
    if not _is_text(value):
        return value
    names = tuple(dict.fromkeys(part.strip() for part in value.split(",") if part.strip()))
    if not names or not set(names) <= set(QUEUES):
        raise ValueError(f"must be one or more of {', '.join(QUEUES)}, separated by commas; got {value[:40]!r}")
    return names


Queues = Annotated[tuple[str, ...], BeforeValidator(_queues)]
Networks = Annotated[tuple[ipaddress.IPv4Network | ipaddress.IPv6Network, ...], BeforeValidator(_networks)]
Size = Annotated[int, BeforeValidator(_size)]


class SettingsGroup(BaseModel):
    """The docstring of a subclass is its heading in docs/settings.md."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", validate_by_name=True, validate_by_alias=True, allow_inf_nan=False
    )

    @field_validator("*")
    @classmethod
    def _not_too_large(cls, value: Any, info: ValidationInfo) -> Any:
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        most = _MAX_SECONDS if str(info.field_name).endswith("seconds") else _MAX_NUMBER
        if is_number and value > most:
            raise ValueError(f"must be at most {most}")
        return value
