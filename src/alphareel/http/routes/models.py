"""The models and engines of this server."""

from fastapi import APIRouter, Request

from alphareel.http import catalog
from alphareel.http.context import ServicesOf, SettingsOf, context_of
from alphareel.http.openapi import errors
from alphareel.http.schemas import models as schemas
from alphareel.service.jobs.capabilities import writable_formats

router = APIRouter(tags=["models"])


@router.get("/models", responses=errors())
def list_models(request: Request, services: ServicesOf, settings: SettingsOf) -> schemas.Models:
    """The four models with the engine that serves each, every engine with its licenses, and the limits on clips."""
    engines = context_of(request).list_engines()
    return schemas.Models(
        items=catalog.tiers(services.prices, engines, services.estimates.speeds()),
        engines=list(engines),
        formats=list(writable_formats()),
        limits=catalog.limits(settings.limits),
    )
