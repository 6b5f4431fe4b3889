"""Whether the service is well, alive and ready; none of these asks for a key."""

from typing import cast

from fastapi import APIRouter, Request

from alphareel.domain.errors import Unavailable
from alphareel.http import schemas
from alphareel.http.auth import ConfigOf, ServiceOf
from alphareel.http.openapi import errors
from alphareel.http.pools import HealthPool
from alphareel.jobs.use_cases import Health

router = APIRouter(tags=["health"], responses=errors())


async def get_health(request: Request, service: ServiceOf, config: ConfigOf) -> schemas.Health:
    """For people and dashboards: 200 also when degraded; `checks` says what is missing."""
    found = await _ask(request, service)
    checks = schemas.HealthChecks(
        api=True,
        database_configured=found.database,
        worker_configured=found.worker,
        storage_configured=found.storage,
        runpod_configured=found.worker,
        r2_configured=found.storage,
    )
    well = found.database and found.worker and found.storage
    return schemas.Health(status="healthy" if well else "degraded", version=config.version, checks=checks)


async def get_livez() -> schemas.Alive:
    """For a supervisor: the process answers."""
    return schemas.Alive(status="alive")


async def get_readyz(request: Request, service: ServiceOf) -> schemas.Alive:
    """For a load balancer: requests can be taken; jobs may still wait for a worker."""
    found = await _ask(request, service)
    if not (found.database and found.storage):
        missing = "database" if not found.database else "storage"
        raise Unavailable(f"The {missing} does not answer.", hint="Try again in a moment.")
    return schemas.Alive(status="ready")


async def _ask(request: Request, service: ServiceOf) -> Health:
    return await cast(HealthPool, request.app.state.health_pool).run(service.health)


router.add_api_route("/health", get_health, methods=["GET"])
router.add_api_route("/livez", get_livez, methods=["GET"])
router.add_api_route("/readyz", get_readyz, methods=["GET"], responses=errors(s503="Not ready"))
for _path, _handler in (("/health", get_health), ("/livez", get_livez), ("/readyz", get_readyz)):
    router.add_api_route(_path, _handler, methods=["HEAD"], include_in_schema=False)
