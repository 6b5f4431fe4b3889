"""What serves each tier on this server."""

from fastapi import APIRouter, Request

from alphareel.http import catalog
from alphareel.http.context import ConfigOf, ServicesOf, context_of
from alphareel.http.openapi import errors
from alphareel.http.schemas import responses

router = APIRouter(tags=["models"])


@router.get("/models", responses=errors())
def list_models(request: Request, services: ServicesOf, config: ConfigOf) -> responses.Models:
    """The four tiers with the engine that serves each, every engine with its licenses, and what a clip may be."""
    found = context_of(request).list_engines()
    return responses.Models(
        items=catalog.tiers(services.prices, found, services.estimates.speeds()),
        engines=[catalog.engine(offer) for offer in found],
        limits=catalog.limits(config),
    )
