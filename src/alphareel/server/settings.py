"""Reads the settings from the environment, and documents them. Their fields are in ``service.settings``."""

import os
import re
from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from typing import Any

from pydantic import SecretStr, ValidationError
from pydantic.fields import FieldInfo

from alphareel.domain.errors import InvalidRequest
from alphareel.service.settings import Settings, SettingsGroup

PREFIX = "ALPHAREEL_"

_OF_CLIENTS = frozenset({"BASE_URL", "TIMEOUT", "RUNNER_TOKEN"})  # variables that programs beside the service read


def traces_are_wanted() -> bool:
    """Whether the standard variables of OpenTelemetry name a collector for traces."""
    names = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
    return any(os.environ.get(name) for name in names)


def load_settings() -> Settings:
    """Settings from the environment; an empty variable counts as unset.

    Raises InvalidRequest that names every variable at fault.
    """
    variables = {name.upper(): value for name, value in os.environ.items() if value}
    values = {
        group: {alias: variables[PREFIX + alias] for alias in _aliases(fields) if PREFIX + alias in variables}
        for group, fields in _groups()
    }
    try:
        return Settings.model_validate(values)
    except ValidationError as error:
        problems = "; ".join(f"{PREFIX}{e['loc'][1]} {_plain(e['msg'])}" for e in error.errors())
        raise InvalidRequest(f"{problems}.", hint="docs/settings.md describes every setting.") from None


def settings_from(variables: Mapping[str, str]) -> Settings:
    """Settings from these variables, as ``as_environment`` writes them. The environment is left unchanged."""
    os.environ.update(variables)
    try:
        return load_settings()
    finally:
        for name in variables:
            del os.environ[name]


def unknown_variables(environment: Mapping[str, str]) -> dict[str, str | None]:
    """Variables with the prefix of settings that are no settings, each with the most similar setting."""
    known = [PREFIX + alias for _, group in _groups() for alias in _aliases(group)]
    names = {name: name.upper().removeprefix(PREFIX) for name in environment if name.upper().startswith(PREFIX)}
    strange = [n for n, rest in names.items() if rest not in _OF_CLIENTS and not rest.startswith("TEST_")]
    return {
        name: next(iter(get_close_matches(name.upper(), known, n=1, cutoff=0.75)), None)
        for name in strange
        if name.upper() not in known
    }


def as_environment(settings: Settings) -> dict[str, str]:
    """Variables from which ``load_settings`` makes equal settings in another process."""
    return {PREFIX + alias: _written(value) for alias, value in _values(settings) if value is not None}


def shown(settings: Settings) -> dict[str, str | float | bool]:
    """Every setting as operators may see it: without secrets, and without credentials in URLs."""
    return {alias.lower(): _harmless(value) for alias, value in _values(settings)}


def reference() -> str:
    """The tables of all settings, one for each group, as docs/settings.md shows them."""
    return "\n".join(_table(group) for _, group in _groups())


def _table(group: type[SettingsGroup]) -> str:
    rows = [
        f"| `{PREFIX}{alias}` | {_default(alias, field)} | {field.description} |"
        for alias, field in _aliases(group).items()
    ]
    heading = (group.__doc__ or "").rstrip(".")
    return "\n".join((f"## {heading}", "", "| variable | default | meaning |", "| --- | --- | --- |", *rows, ""))


def _groups() -> Iterator[tuple[str, type[SettingsGroup]]]:
    for name, field in Settings.model_fields.items():
        if not (isinstance(field.annotation, type) and issubclass(field.annotation, SettingsGroup)):
            raise TypeError(f"{name} must be a group of settings")
        yield name, field.annotation


def _aliases(group: type[SettingsGroup]) -> dict[str, FieldInfo]:
    """The group's settings by the name of their variable, without the prefix."""
    return {str(field.validation_alias): field for field in group.model_fields.values() if field.validation_alias}


def _values(settings: Settings) -> Iterator[tuple[str, Any]]:
    for name, group in _groups():
        values = getattr(settings, name)
        for field_name, field in group.model_fields.items():
            if field.validation_alias:
                yield str(field.validation_alias), getattr(values, field_name)


_SPOKEN_DEFAULTS = {
    "DATA_DIR": "`~/.local/share/alphareel`",
    "MODELS_DIR": "`models` in the data folder",
    "DATABASE_URL": "`alphareel.db` in the data folder",
    "STORAGE_URL": "`objects` in the data folder",
}


def _default(alias: str, field: FieldInfo) -> str:
    value = field.default
    return _SPOKEN_DEFAULTS.get(alias) or ("unset" if value in (None, (), "") else f"`{_written(value)}`")


def _harmless(value: Any) -> str | float | bool:
    """Numbers and switches as they are, all else as text."""
    if isinstance(value, int | float):
        return value
    if value is None or isinstance(value, SecretStr):
        return "unset" if value is None else "set"
    return re.sub(r"(?<=://)[^/@\s]*@", "", _written(value))


def _written(value: Any) -> str:
    if isinstance(value, SecretStr):
        return value.get_secret_value()
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple):
        return ",".join(map(str, value))
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value)


def _plain(message: str) -> str:
    plain = message.removeprefix("Value error, ")
    return plain[0].lower() + plain[1:]
