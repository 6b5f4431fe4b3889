"""Which engine serves which tier of the contract, what is on offer on this machine, and why the rest is not."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias, cast

from alphareel import plugins
from alphareel.domain.errors import FieldProblem, InvalidRequest, ModelUnavailable, WeightsInvalid
from alphareel.domain.options import TIERS, Options, Tier
from alphareel.matting.engine import Engine, ModelInfo
from alphareel.matting.people import means_people
from alphareel.matting.runtime import Device, Runtime, limit_picture_threads

PACKAGE = "alphareel.matting.models"

Orders: TypeAlias = Mapping[Tier, tuple[str, ...]]
"""The engines that may serve each tier, the first that can run does."""

# Best first. A network that the user put into the models
# folder is there because he wants it, so it goes before the one in the package. "original" promises any subject,
# "human" and "light" promise speed: docs/models/ says what each engine is good for.
ENGINES: Orders = {
    "original": ("birefnet", "birefnet_lite", "rvm_resnet50", "rvm", "modnet", "builtin"),
    "light": ("rvm", "builtin"),
    "human": ("rvm_resnet50", "rvm", "modnet", "birefnet_portrait", "builtin"),
    "pro": ("prompted",),
}


@dataclass(frozen=True)
class SelectedEngine:
    """A loaded engine, and what the caller should know about the choice. ``lead``: frames it has to see beforehand.

    ``lead`` is None for an engine that has to see a clip from its start.
    """

    engine: Engine
    warnings: tuple[str, ...] = ()

    @property
    def lead(self) -> int | None:
        return cast("int | None", _module(self.engine.facts.name).SPEC.warmup_frames)


@dataclass(frozen=True)
class EngineStatus:
    """One engine as it stands on this machine.

    ``reason`` says why it cannot run, None when it can. ``tiers``: those it may serve; ``serving``: those that it
    does serve now, because nothing before it is there.
    """

    spec: ModelInfo
    tiers: tuple[Tier, ...]
    serving: tuple[Tier, ...]
    reason: str | None = None

    @property
    def available(self) -> bool:
        return self.reason is None


def names() -> tuple[str, ...]:
    """Every engine there is, by name."""
    return plugins.names(PACKAGE)


def parse_orders(text: str) -> Orders:
    """Orders of a setting such as ``original=birefnet,rvm;human=rvm``; tiers that it leaves out keep theirs.

    Raises InvalidRequest for a tier or an engine that does not exist.
    """
    orders = dict(ENGINES)
    for part in filter(None, (p.strip() for p in text.split(";"))):
        tier, _, listed = part.partition("=")
        engines = tuple(name.strip() for name in listed.split(",") if name.strip())
        unknown = [name for name in engines if name not in names()]
        if tier.strip() not in TIERS or unknown or not engines:
            raise InvalidRequest(f"{part[:100]!r} orders no engines.", hint=f"Engines are {', '.join(names())}.")
        orders[cast(Tier, tier.strip())] = engines
    return orders


def choose(
    options: Options,
    models_dir: Path | None,
    threads: int | None = None,
    device: Device = "cpu",
    *,
    order: Sequence[str] | None = None,
) -> SelectedEngine:
    """The engine for these options, loaded; ``options.engine`` overrides the tier's choice by name.

    A plate that is given chooses the engine ``plate``.

    ``order``: engines to try instead of the tier's own. A damaged weights file is passed over, with a warning, when
    another engine can serve; so is told when what serves is not what the tier is meant to be.
    Raises InvalidRequest for an unknown engine, ModelUnavailable when none can serve, WeightsInvalid for an engine
    that was asked for by name.
    """
    limit_picture_threads()
    runtime = Runtime(models_dir, threads, device)
    named = "plate" if options.engine is None and options.plate is not None else options.engine
    if named is not None:
        return SelectedEngine(_module(named).load(runtime), _unprompted(options, named))
    reasons: list[str] = []
    warnings: list[str] = []
    names_in_order = tuple(order or ENGINES[options.model])
    for name in _candidates(options, names_in_order):
        try:
            engine = _module(name).load(runtime)
            return SelectedEngine(engine, (*warnings, *_told(options, name, names_in_order, models_dir)))
        except ModelUnavailable as error:
            reasons.append(error.message)
        except WeightsInvalid as error:
            reasons.append(error.message)
            warnings.append(f"{name} was passed over: {error.message}")
    raise _unavailable(options, reasons, models_dir)


def expected(options: Options, models_dir: Path | None, orders: Orders = ENGINES) -> tuple[str, ...]:
    """The warnings that ``choose`` will have, without loading anything. Raises ModelUnavailable, InvalidRequest."""
    if options.engine is not None:
        reason = _reason(_module(options.engine), models_dir)
        if reason is not None:
            raise ModelUnavailable(f"The engine {options.engine} cannot run here: {reason}")
        return _unprompted(options, options.engine)
    order, reasons = orders[options.model], list[str]()
    for name in _candidates(options, order):
        reason = _reason(_module(name), models_dir)
        if reason is None:
            return _told(options, name, order, models_dir)
        reasons.append(reason)
    raise _unavailable(options, reasons, models_dir)


def _candidates(options: Options, order: Sequence[str]) -> tuple[str, ...]:
    """The engines to try: where only one for prompts may serve, those for people too if the prompt means people."""
    prompted = any(_module(name).SPEC.prompted for name in order)
    if not prompted or not means_people(options.text_prompt):
        return tuple(order)
    return tuple(dict.fromkeys((*order, *ENGINES["human"])))


def _unavailable(options: Options, reasons: Sequence[str], models_dir: Path | None) -> ModelUnavailable:
    prompted = any(_module(name).SPEC.prompted for name in ENGINES[options.model])
    choice = f"hoose one of {', '.join(_served(models_dir)) or 'the engines'}, or see docs/models/."
    hint = f"C{choice}"
    if prompted:
        hint = (
            f"Then fetch its weights: alphareel models pull prompted. Or name people alone in text_prompt, or c{choice}"
        )
    return ModelUnavailable(f"No engine here serves the model {options.model}. {' '.join(reasons)}", hint=hint)


def _told(options: Options, name: str, order: Sequence[str], models_dir: Path | None) -> tuple[str, ...]:
    """What the caller should know of the engine that serves."""
    fallback = stand_in(options.model, name, order)
    first = _module(order[0])
    if fallback and first.SPEC.prompted and (reason := _reason(first, models_dir)) is not None:
        fallback = (*fallback, f"{order[0]} cannot run here: {reason}")
    return (*fallback, *_unprompted(options, name))


def _unprompted(options: Options, name: str) -> tuple[str, ...]:
    """A sentence when the engine takes no notice of a prompt; where the model takes none, ``Options`` says so."""
    spec = _module(name).SPEC
    if options.model != "pro" or not options.text_prompt or spec.prompted:
        return ()
    return (f"text_prompt is ignored: the engine {name} cuts out {spec.subject}, whatever the text says.",)


def stand_in(tier: Tier, name: str, order: Sequence[str]) -> tuple[str, ...]:
    """A sentence when an engine stands in for the first of its order.

    In the order of the house it is one only when it cuts out something else: that a small network serves where a
    larger one could be fetched is no news to anybody, that it knows only people is.
    """
    first = order[0]
    serves, meant = _module(name).SPEC.subject, _module(first).SPEC.subject
    if name == first or (serves == meant and tuple(order) == ENGINES[tier]):
        return ()
    return (f"The model {tier} is served by {name} (cuts out {serves}), since {first} (cuts out {meant}) is not here.",)


def list_engines(models_dir: Path | None, orders: Orders = ENGINES) -> tuple[EngineStatus, ...]:
    """Every engine, whether it can run here, and which tiers it serves now. Loads no network and no runtime."""
    modules = {name: _module(name) for name in names()}
    reasons = {name: _reason(module, models_dir) for name, module in modules.items()}
    first = {tier: next((n for n in orders[tier] if reasons.get(n, "absent") is None), None) for tier in TIERS}
    return tuple(
        EngineStatus(
            spec=module.SPEC,
            tiers=tuple(tier for tier in TIERS if name in orders[tier]),
            serving=tuple(tier for tier in TIERS if first[tier] == name),
            reason=reasons[name],
        )
        for name, module in modules.items()
    )


def serving(tier: Tier, models_dir: Path | None, orders: Orders = ENGINES) -> str | None:
    """Name of the engine that serves this tier now; None when nothing does."""
    return next((o.spec.name for o in list_engines(models_dir, orders) if tier in o.serving), None)


def _served(models_dir: Path | None) -> tuple[str, ...]:
    offers = list_engines(models_dir)
    return tuple(tier for tier in TIERS if any(tier in o.serving for o in offers))


def _module(name: str) -> Any:
    if name not in names():
        listing = ", ".join(names())
        message = f"There is no engine {name[:60]!r}; there are {listing}."
        raise InvalidRequest(message, details=[FieldProblem("engine", f"must be one of {listing}.")])
    return plugins.module(PACKAGE, name)


def _reason(module: Any, models_dir: Path | None) -> str | None:
    try:
        return cast("str | None", module.available(models_dir))
    except WeightsInvalid as error:
        return error.message
