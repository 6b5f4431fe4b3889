"""Whether the service is well, alive and ready; none of these asks for a key."""

from fastapi import APIRouter

from alphareel.domain.errors import StorageFull, Unavailable
from alphareel.http.context import ConfigOf, ServicesOf
from alphareel.http.openapi import errors
from alphareel.http.schemas import responses

router = APIRouter(tags=["health"], responses=errors())


async def get_health(services: ServicesOf, config: ConfigOf) -> responses.Health:
    """For people and dashboards: 200 also when degraded; `checks` says what is missing."""
    found = services.health.check()
    checks = responses.HealthChecks(
        api=True,
        database_configured=found.database,
        worker_configured=found.worker,
        storage_configured=found.storage,
        runpod_configured=found.worker,
        r2_configured=found.storage,
    )
    well = found.database and found.worker and found.storage and found.space
    return responses.Health(status="healthy" if well else "degraded", version=config.version, checks=checks)


async def get_livez() -> responses.Alive:
    """For a supervisor: the process answers."""
    return responses.Alive(status="alive")


async def get_readyz(services: ServicesOf, config: ConfigOf) -> responses.Alive:
    """For a load balancer: requests can be taken, and a worker is there for their jobs where one belongs here."""
    found = services.health.check()
    if not (found.database and found.storage):
        missing = "database" if not found.database else "storage"
        raise Unavailable(f"The {missing} does not answer.", hint="Try again in a moment.")
    if not found.space:
        raise StorageFull("The disk of this server is almost full.", hint="Free space, or try again later.")
    if config.ready_with_worker and not found.worker:
        raise Unavailable("No worker shows a sign of life.", hint="It is started anew; try again in a moment.")
    return responses.Alive(status="ready")


router.add_api_route("/health", get_health, methods=["GET"])
router.add_api_route("/livez", get_livez, methods=["GET"])
router.add_api_route("/readyz", get_readyz, methods=["GET"], responses=errors(s503="Not ready"))
for _path, _handler in (("/health", get_health), ("/livez", get_livez), ("/readyz", get_readyz)):
    router.add_api_route(_path, _handler, methods=["HEAD"], include_in_schema=False)
