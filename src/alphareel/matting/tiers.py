"""Selects the engine for each tier (``original``, ``light``, ``human``, ``pro``) and reports which engines can run."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from alphareel import memory, plugins
from alphareel.domain.errors import FieldProblem, InvalidRequest, ModelUnavailable, WeightsInvalid
from alphareel.domain.options import TIERS, Options, Tier
from alphareel.matting.engine import Engine, ModelInfo
from alphareel.matting.people import means_people
from alphareel.matting.priorities import DEFAULT_PRIORITIES, ENTRY_POINT_GROUP, PACKAGE, Priorities, names
from alphareel.matting.runtime import Device, Runtime, limit_opencv_threads

ONLY_PERMISSIVE = "ALPHAREEL_ONLY_PERMISSIVE"


@dataclass(frozen=True)
class SelectedEngine:
    """A loaded engine and warnings about its selection."""

    engine: Engine
    warnings: tuple[str, ...] = ()

    @property
    def warmup_frames(self) -> int | None:
        """See ``ModelInfo.warmup_frames``."""
        return cast("int | None", load_module(self.engine.facts.name).INFO.warmup_frames)

    def changes_colors(self, options: Options) -> bool:
        """Whether the colors of its mattes do not follow from frame and alpha; see ``ModelInfo.changes_colors``."""
        changes = load_module(self.engine.facts.name).INFO.changes_colors
        return bool(changes == "always" or (changes == "with shadows" and options.shadows))


@dataclass(frozen=True)
class EngineStatus:
    """The state of one engine on this machine."""

    info: ModelInfo
    tiers: tuple[Tier, ...]
    """Tiers it may serve."""
    serving: tuple[Tier, ...]
    """Tiers it serves now, because no preferred engine is available."""
    reason: str | None = None
    """Why it cannot run; None when it can."""

    @property
    def available(self) -> bool:
        return self.reason is None


def load_module(name: str) -> Any:
    """Import the model file ``name``. Raises InvalidRequest when there is none."""
    loaders = plugins.discover(PACKAGE, ENTRY_POINT_GROUP)
    if name not in loaders:
        known = ", ".join(loaders)
        message = f"There is no engine {name[:60]!r}; there are {known}."
        raise InvalidRequest(message, details=[FieldProblem("engine", f"must be one of {known}.")])
    return loaders[name]()


def choose(
    options: Options,
    models_dir: Path | None,
    threads: int | None = None,
    device: Device = "cpu",
    *,
    engine_priority: Sequence[str] | None = None,
) -> SelectedEngine:
    """Select and load the engine for these options.

    ``options.engine`` selects an engine by name, and ``options.plate`` selects the engine ``plate``. Otherwise the
    first engine in ``engine_priority`` (default: that of the tier) that can run is used; after them those of the tier
    ``human``, if the tier's engines need a prompt and ``options.text_prompt`` names people or is missing. An engine
    with a damaged weights file is skipped with a warning. A fallback to an engine for another kind of subject, and a
    prompt that the engine ignores, are warnings too.

    Raises InvalidRequest for an unknown engine, ModelUnavailable when no engine can run, and WeightsInvalid when the
    weights of an engine selected by name are damaged.
    """
    limit_opencv_threads()
    memory.limit_arenas()
    runtime = Runtime(models_dir, threads, device)
    requested = "plate" if options.engine is None and options.plate is not None else options.engine
    if requested is not None:
        return SelectedEngine(_load(requested, runtime), _ignored_prompt_warning(options, requested))
    reasons: list[str] = []
    warnings: list[str] = []
    priority = tuple(engine_priority or DEFAULT_PRIORITIES[options.model])
    for name in _candidates(options, priority):
        try:
            engine = _load(name, runtime)
            return SelectedEngine(engine, (*warnings, *_selection_warnings(options, name, priority, models_dir)))
        except ModelUnavailable as error:
            reasons.append(error.message)
        except WeightsInvalid as error:
            reasons.append(error.message)
            warnings.append(f"The engine {name} was skipped: {error.message}")
    raise _model_unavailable(options, reasons, models_dir)


def expected_warnings(
    options: Options, models_dir: Path | None, priorities: Priorities = DEFAULT_PRIORITIES
) -> tuple[str, ...]:
    """The warnings that ``choose`` will return, without loading an engine. Raises ModelUnavailable, InvalidRequest."""
    if options.engine is not None:
        reason = _unavailable_reason(load_module(options.engine), models_dir)
        if reason is not None:
            raise ModelUnavailable(f"The engine {options.engine} cannot run here: {reason}")
        return _ignored_prompt_warning(options, options.engine)
    priority, reasons = priorities[options.model], list[str]()
    for name in _candidates(options, priority):
        reason = _unavailable_reason(load_module(name), models_dir)
        if reason is None:
            return _selection_warnings(options, name, priority, models_dir)
        reasons.append(reason)
    raise _model_unavailable(options, reasons, models_dir)


def expected_engine(options: Options, models_dir: Path | None, engine_priority: Sequence[str] | None = None) -> str:
    """Name of the engine that ``choose`` will select, without loading it. Raises ModelUnavailable, InvalidRequest."""
    requested = "plate" if options.engine is None and options.plate is not None else options.engine
    candidates = (
        _candidates(options, tuple(engine_priority or DEFAULT_PRIORITIES[options.model]))
        if requested is None
        else (requested,)
    )
    reasons = []
    for name in candidates:
        reason = _unavailable_reason(load_module(name), models_dir)
        if reason is None:
            return name
        reasons.append(reason)
    raise _model_unavailable(options, reasons, models_dir)


def _candidates(options: Options, priority: Sequence[str]) -> tuple[str, ...]:
    """The engines to try in order. A prompt that means people can also be served by the engines of the tier human."""
    is_prompted = any(load_module(name).INFO.prompted for name in priority)
    if not is_prompted or not means_people(options.text_prompt):
        return tuple(priority)
    return tuple(dict.fromkeys((*priority, *DEFAULT_PRIORITIES["human"])))


def _model_unavailable(options: Options, reasons: Sequence[str], models_dir: Path | None) -> ModelUnavailable:
    tiers = ", ".join(_served_tiers(models_dir)) or "the engines"
    hint = f"Choose one of {tiers}, or see docs/models/."
    if any(load_module(name).INFO.prompted for name in DEFAULT_PRIORITIES[options.model]):
        hint = (
            "Then fetch its weights: alphareel models pull prompted. Or name only people in text_prompt, "
            f"or choose one of {tiers}, or see docs/models/."
        )
    return ModelUnavailable(f"No engine here can serve the model {options.model}. {' '.join(reasons)}", hint=hint)


def _selection_warnings(
    options: Options, name: str, priority: Sequence[str], models_dir: Path | None
) -> tuple[str, ...]:
    """Warnings about the selected engine. They include what the first engine needs, if that is one for prompts."""
    fallback = fallback_warning(options.model, name, priority)
    first = load_module(priority[0])
    if fallback and first.INFO.prompted and (reason := _unavailable_reason(first, models_dir)) is not None:
        fallback = (*fallback, f"{priority[0]} cannot run here: {reason}")
    return (*fallback, *_ignored_prompt_warning(options, name))


def _ignored_prompt_warning(options: Options, name: str) -> tuple[str, ...]:
    """A warning when an engine of the tier pro ignores the prompt. ``Options.warnings`` covers the other tiers."""
    info = load_module(name).INFO
    if options.model != "pro" or not options.text_prompt or info.prompted:
        return ()
    return (f"text_prompt is ignored: the engine {name} cuts out {info.subject}, whatever the text says.",)


def fallback_warning(tier: Tier, name: str, priority: Sequence[str]) -> tuple[str, ...]:
    """A warning when the selected engine is not the first of its priority list.

    With the default priorities only when it cuts out another kind of subject: a smaller network for the same subject
    is the normal case on a machine without downloaded weights.
    """
    first = priority[0]
    actual, intended = load_module(name).INFO.subject, load_module(first).INFO.subject
    if name == first or (actual == intended and tuple(priority) == DEFAULT_PRIORITIES[tier]):
        return ()
    served = f"The model {tier} is served by {name} (cuts out {actual})"
    return (f"{served} because {first} (cuts out {intended}) is not available.",)


def list_engines(models_dir: Path | None, priorities: Priorities = DEFAULT_PRIORITIES) -> tuple[EngineStatus, ...]:
    """The status of every engine. Loads no network and no inference runtime."""
    modules = {name: load_module(name) for name in names()}
    reasons = {name: _unavailable_reason(module, models_dir) for name, module in modules.items()}
    first = {tier: next((n for n in priorities[tier] if reasons.get(n, "absent") is None), None) for tier in TIERS}
    return tuple(
        EngineStatus(
            info=module.INFO,
            tiers=tuple(tier for tier in TIERS if name in priorities[tier]),
            serving=tuple(tier for tier in TIERS if first[tier] == name),
            reason=reasons[name],
        )
        for name, module in modules.items()
    )


def serving(tier: Tier, models_dir: Path | None, priorities: Priorities = DEFAULT_PRIORITIES) -> str | None:
    """Name of the engine that serves this tier now; None when there is none."""
    return next((e.info.name for e in list_engines(models_dir, priorities) if tier in e.serving), None)


def _served_tiers(models_dir: Path | None) -> tuple[str, ...]:
    engines = list_engines(models_dir)
    return tuple(tier for tier in TIERS if any(tier in e.serving for e in engines))


def only_permissive() -> bool:
    """Whether ALPHAREEL_ONLY_PERMISSIVE refuses engines whose licenses do not permit any use."""
    return os.environ.get(ONLY_PERMISSIVE, "").strip().lower() in ("1", "true", "yes", "on")


def _refusal(info: ModelInfo) -> str | None:
    """Why the engine may not run here, whether it could or not; None if it may."""
    if info.permissive or not only_permissive():
        return None
    return (
        f"{info.name} is not under permissive licenses (code: {info.code_license}; weights: {info.weights_license}), "
        f"and {ONLY_PERMISSIVE} is set."
    )


def _load(name: str, runtime: Runtime) -> Engine:
    """Load an engine. Raises ModelUnavailable, WeightsInvalid."""
    module = load_module(name)
    if (refusal := _refusal(module.INFO)) is not None:
        raise ModelUnavailable(refusal, hint="Choose another engine; alphareel models lists their licenses.")
    return cast(Engine, module.load(runtime))


def _unavailable_reason(module: Any, models_dir: Path | None) -> str | None:
    if (refusal := _refusal(module.INFO)) is not None:
        return refusal
    try:
        return cast("str | None", module.available(models_dir))
    except WeightsInvalid as error:
        return error.message
