"""What this server offers: models with the engines that serve them, prices, speed, and limits on clips."""

from collections.abc import Callable, Mapping, Sequence

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


ListEngines = Callable[[], Sequence[schemas.EngineStatus]]


def pricing(
    prices: PriceList, engines: Sequence[schemas.EngineStatus], speeds: Mapping[Tier, Speed], clip_limits: LimitSettings
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
    prices: PriceList, engines: Sequence[schemas.EngineStatus], speeds: Mapping[Tier, Speed]
) -> list[schemas.ModelStatus]:
    """The four tiers, each with the engine that serves it."""
    return [_tier(tier, engines, prices, speeds[tier]) for tier in TIERS]


def limits(clip_limits: LimitSettings) -> schemas.ClipLimits:
    return schemas.ClipLimits(
        bytes=clip_limits.max_upload_bytes, side=clip_limits.max_side, seconds=clip_limits.max_seconds
    )


def _tier(tier: Tier, engines: Sequence[schemas.EngineStatus], prices: PriceList, speed: Speed) -> schemas.ModelStatus:
    serving = next((engine for engine in engines if tier in engine.serves and engine.missing is None), None)
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
