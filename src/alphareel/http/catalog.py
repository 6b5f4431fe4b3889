"""What this server offers: the tiers with the engines behind them, prices, speed, and what a clip may be."""

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

from alphareel.domain.options import TIERS, Tier
from alphareel.http.config import HttpConfig
from alphareel.http.schemas import responses
from alphareel.service.billing.credits import PriceList
from alphareel.service.jobs.estimates import Speed

_PACKAGES = [
    responses.Package(id=name.lower(), name=name, credits=0, price_cents=0) for name in ("Starter", "Pro", "Business")
]
# Speed and quality of each tier as the contract words them.
_PROMISED: Mapping[Tier, tuple[str, str]] = {
    "original": ("standard", "highest"),
    "light": ("fastest", "high"),
    "pro": ("slowest", "highest"),
    "human": ("fastest", "high"),
}
_FULL_HD = 1920 * 1080


class EngineSpec(Protocol):
    """What is known of an engine without loading it."""

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


class EngineStatus(Protocol):
    """An engine, the tiers that it would serve here, and what it misses (one sentence, None when nothing)."""

    @property
    def info(self) -> EngineSpec: ...
    @property
    def serves(self) -> Sequence[str]: ...
    @property
    def missing(self) -> str | None: ...


ListEngines = Callable[[], Sequence[EngineStatus]]


def pricing(
    prices: PriceList, offers: Sequence[EngineStatus], speeds: Mapping[Tier, Speed], config: HttpConfig
) -> responses.Pricing:
    """The packages of the contract are named; what they hold and cost is nowhere said, and nothing is sold here."""
    return responses.Pricing(
        model_pricing_credits_per_minute={tier: price / 100 for tier, price in prices.per_minute.items()},
        price_per_second_cents=0,
        packages=_PACKAGES,
        pricing_version=prices.version,
        models=tiers(prices, offers, speeds),
        limits=limits(config),
    )


def tiers(
    prices: PriceList, offers: Sequence[EngineStatus], speeds: Mapping[Tier, Speed]
) -> list[responses.ModelStatus]:
    """The four tiers, each with the engine that serves it now."""
    return [_tier(tier, offers, prices, speeds[tier]) for tier in TIERS]


def limits(config: HttpConfig) -> responses.ClipLimits:
    return responses.ClipLimits(bytes=config.max_upload_bytes, side=config.max_side, seconds=config.max_seconds)


def engine(offer: EngineStatus) -> responses.EngineStatus:
    """An engine with its licenses, whether it runs here or not."""
    info = offer.info
    return responses.EngineStatus(
        name=info.name,
        version=info.version,
        subject=info.subject,
        summary=info.summary,
        code_license=info.code_license,
        weights_license=info.weights_license,
        serves=list(offer.serves),
        missing=offer.missing,
    )


def _tier(tier: Tier, offers: Sequence[EngineStatus], prices: PriceList, speed: Speed) -> responses.ModelStatus:
    serving = next((offer.info for offer in offers if tier in offer.serves and offer.missing is None), None)
    return responses.ModelStatus(
        model=tier,
        available=serving is not None,
        engine=serving.name if serving else None,
        subject=serving.subject if serving else None,
        license=serving.weights_license if serving else None,
        speed=_PROMISED[tier][0],
        quality=_PROMISED[tier][1],
        full_hd_fps=round(speed.pixels_per_second / _FULL_HD, 1) if serving else None,
        speed_basis=speed.basis if serving else None,
        text_prompt=tier == "pro",
        credits_per_minute=prices.per_minute[tier] / 100,
    )
