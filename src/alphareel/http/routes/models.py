"""What serves each tier on this server."""

from typing import cast

from fastapi import APIRouter, Request

from alphareel.http import offers, schemas
from alphareel.http.auth import ConfigOf, ServiceOf
from alphareel.http.offers import Offers
from alphareel.http.openapi import errors

router = APIRouter(tags=["models"])


@router.get("/models", responses=errors())
def list_models(request: Request, service: ServiceOf, config: ConfigOf) -> schemas.Models:
    """The four tiers with the engine that serves each, every engine with its licences, and what a clip may be."""
    found = cast(Offers, request.app.state.offers)()
    return schemas.Models(
        items=offers.tiers(service.prices, found, service.speeds()),
        engines=[offers.engine(offer) for offer in found],
        limits=offers.limits(config),
    )
