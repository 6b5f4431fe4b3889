"""What serves each tier on this server."""

from collections.abc import Callable, Sequence
from typing import Protocol, cast

from fastapi import APIRouter, Request

from alphareel.domain.options import TIERS, Tier
from alphareel.http import schemas
from alphareel.http.auth import ServiceOf
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


Offers = Callable[[], Sequence[EngineOffer]]


@router.get("/models", responses=errors())
def list_models(request: Request, service: ServiceOf) -> schemas.Models:
    """The four tiers with the engine that serves each, and every engine with its licences."""
    offers = cast(Offers, request.app.state.offers)()
    tiers = [_tier(tier, offers, service.prices) for tier in TIERS]
    return schemas.Models(items=tiers, engines=[_engine(offer) for offer in offers])


def _tier(tier: Tier, offers: Sequence[EngineOffer], prices: Prices) -> schemas.TierOffer:
    serving = next((offer.spec for offer in offers if tier in offer.serves and offer.missing is None), None)
    return schemas.TierOffer(
        model=tier,
        available=serving is not None,
        engine=serving.name if serving else None,
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
