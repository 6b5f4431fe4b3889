"""What serves each tier on this server."""

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol, cast

from fastapi import APIRouter, Request

from alphareel.domain.options import TIERS, Tier
from alphareel.http import schemas
from alphareel.http.auth import ConfigOf, ServiceOf
from alphareel.http.openapi import errors
from alphareel.jobs.credits import Prices

router = APIRouter(tags=["models"])


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
    def code_licence(self) -> str: ...
    @property
    def weights_licence(self) -> str: ...


class EngineOffer(Protocol):
    """An engine, the tiers that it would serve here, and what it misses (one sentence, None when nothing)."""

    @property
    def spec(self) -> EngineSpec: ...
    @property
    def serves(self) -> Sequence[str]: ...
    @property
    def missing(self) -> str | None: ...


# Speed and quality of each tier as the contract words them.
_PROMISED: Mapping[Tier, tuple[str, str]] = {
    "original": ("standard", "highest"),
    "light": ("fastest", "high"),
    "pro": ("slowest", "highest"),
    "human": ("fastest", "high"),
}

Offers = Callable[[], Sequence[EngineOffer]]


@router.get("/models", responses=errors())
def list_models(request: Request, service: ServiceOf, config: ConfigOf) -> schemas.Models:
    """The four tiers with the engine that serves each, every engine with its licences, and what a clip may be."""
    offers = cast(Offers, request.app.state.offers)()
    tiers = [_tier(tier, offers, service.prices) for tier in TIERS]
    limits = schemas.ClipLimits(bytes=config.max_upload_bytes, side=config.max_side, seconds=config.max_seconds)
    return schemas.Models(items=tiers, engines=[_engine(offer) for offer in offers], limits=limits)


def _tier(tier: Tier, offers: Sequence[EngineOffer], prices: Prices) -> schemas.TierOffer:
    serving = next((offer.spec for offer in offers if tier in offer.serves and offer.missing is None), None)
    return schemas.TierOffer(
        model=tier,
        available=serving is not None,
        engine=serving.name if serving else None,
        subject=serving.subject if serving else None,
        licence=serving.weights_licence if serving else None,
        speed=_PROMISED[tier][0],
        quality=_PROMISED[tier][1],
        text_prompt=tier == "pro",
        credits_per_minute=prices.per_minute[tier] / 100,
    )


def _engine(offer: EngineOffer) -> schemas.EngineOffer:
    spec = offer.spec
    return schemas.EngineOffer(
        name=spec.name,
        version=spec.version,
        subject=spec.subject,
        summary=spec.summary,
        code_licence=spec.code_licence,
        weights_licence=spec.weights_licence,
        serves=list(offer.serves),
        missing=offer.missing,
    )
