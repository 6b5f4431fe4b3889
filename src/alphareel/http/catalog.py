"""What this server offers: models with the engines that serve them, prices, speed, and limits on clips."""

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

from alphareel.domain.options import TIERS, Tier
from alphareel.http.schemas import models as schemas
from alphareel.service.billing.credits import PriceList
from alphareel.service.jobs.estimates import Speed
from alphareel.service.settings import LimitSettings

_PACKAGES = [
    schemas.Package(id=name.lower(), name=name, credits=0, price_cents=0) for name in ("Starter", "Pro", "Business")
]
# Speed and quality of each model in the API contract's words.
_SPEED_AND_QUALITY: Mapping[Tier, tuple[str, str]] = {
    "original": ("standard", "highest"),
    "light": ("fastest", "high"),
    "pro": ("slowest", "highest"),
    "human": ("fastest", "high"),
}
_FULL_HD_PIXELS = 1920 * 1080


class EngineSpec(Protocol):
    """Facts about an engine that are known without loading it."""

    @property
    def name(self) -> str: ...
    @property
    def version(self) -> str: ...
    @property
    def subject(self) -> str: ...
    @property
    def summary(self) -> str: ...
    @property
    def code_license(self) -> str: ...
    @property
    def weights_license(self) -> str: ...
    @property
    def training_data(self) -> str | None: ...
    @property
    def author_statement(self) -> str | None: ...
    @property
    def permissive(self) -> bool: ...


class EngineStatus(Protocol):
    """An engine, the tiers that it would serve here, and what is missing (one sentence, None if nothing)."""

    @property
    def info(self) -> EngineSpec: ...
    @property
    def serves(self) -> Sequence[str]: ...
    @property
    def missing(self) -> str | None: ...


ListEngines = Callable[[], Sequence[EngineStatus]]


def pricing(
    prices: PriceList, engines: Sequence[EngineStatus], speeds: Mapping[Tier, Speed], clip_limits: LimitSettings
) -> schemas.Pricing:
    """The price list. The contract names three packages but not their content, so they are listed as free."""
    return schemas.Pricing(
        model_pricing_credits_per_minute={tier: price / 100 for tier, price in prices.per_minute.items()},
        price_per_second_cents=0,
        packages=_PACKAGES,
        pricing_version=prices.version,
        models=tiers(prices, engines, speeds),
        limits=limits(clip_limits),
    )


def tiers(
    prices: PriceList, engines: Sequence[EngineStatus], speeds: Mapping[Tier, Speed]
) -> list[schemas.ModelStatus]:
    """The four tiers, each with the engine that serves it."""
    return [_tier(tier, engines, prices, speeds[tier]) for tier in TIERS]


def limits(clip_limits: LimitSettings) -> schemas.ClipLimits:
    return schemas.ClipLimits(
        bytes=clip_limits.max_upload_bytes, side=clip_limits.max_side, seconds=clip_limits.max_seconds
    )


def engine(status: EngineStatus) -> schemas.EngineStatus:
    """An engine with its licenses, whether it can run here or not."""
    info = status.info
    return schemas.EngineStatus(
        name=info.name,
        version=info.version,
        subject=info.subject,
        summary=info.summary,
        code_license=info.code_license,
        weights_license=info.weights_license,
        training_data=info.training_data,
        author_statement=info.author_statement,
        permissive=info.permissive,
        serves=list(status.serves),
        missing=status.missing,
    )


def _tier(tier: Tier, engines: Sequence[EngineStatus], prices: PriceList, speed: Speed) -> schemas.ModelStatus:
    serving = next((status.info for status in engines if tier in status.serves and status.missing is None), None)
    return schemas.ModelStatus(
        model=tier,
        available=serving is not None,
        engine=serving.name if serving else None,
        subject=serving.subject if serving else None,
        license=serving.weights_license if serving else None,
        speed=_SPEED_AND_QUALITY[tier][0],
        quality=_SPEED_AND_QUALITY[tier][1],
        full_hd_fps=round(speed.pixels_per_second / _FULL_HD_PIXELS, 1) if serving else None,
        speed_basis=speed.basis if serving else None,
        text_prompt=tier == "pro",
        credits_per_minute=prices.per_minute[tier] / 100,
    )
