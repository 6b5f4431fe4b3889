"""What serves each tier on this server."""

from typing import cast

from fastapi import APIRouter, Request

from alphareel.http import catalog
from alphareel.http.auth import ConfigOf, ServiceOf
from alphareel.http.catalog import Offers
from alphareel.http.openapi import errors
from alphareel.http.schemas import responses

router = APIRouter(tags=["models"])


@router.get("/models", responses=errors())
def list_models(request: Request, service: ServiceOf, config: ConfigOf) -> responses.Models:
    """The four tiers with the engine that serves each, every engine with its licenses, and what a clip may be."""
    found = cast(Offers, request.app.state.offers)()
    return responses.Models(
        items=catalog.tiers(service.prices, found, service.speeds()),
        engines=[catalog.engine(offer) for offer in found],
        limits=catalog.limits(config),
    )
