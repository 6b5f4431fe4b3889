"""Health checks: health, liveness, readiness. None needs a key."""

from fastapi import APIRouter, Request

from alphareel.domain.errors import StorageFull, Unavailable, by_code
from alphareel.http.context import ServicesOf, SettingsOf
from alphareel.http.openapi import errors
from alphareel.http.schemas import health as schemas

router = APIRouter(tags=["health"], responses=errors())


async def get_health(request: Request, services: ServicesOf) -> schemas.Health:
    """For people and dashboards: 200 even when degraded; `checks` shows what is missing."""
    status = services.health.check()
    checks = schemas.HealthChecks(
        api=True,
        database_configured=status.database,
        worker_configured=status.worker,
        storage_configured=status.storage,
        runpod_configured=status.worker,
        r2_configured=status.storage,
    )
    is_healthy = status.database and status.worker and status.storage and status.space
    return schemas.Health(status="healthy" if is_healthy else "degraded", version=request.app.version, checks=checks)


async def get_livez() -> schemas.Liveness:
    """For a supervisor: the process responds."""
    return schemas.Liveness(status="alive")


async def get_readyz(services: ServicesOf, settings: SettingsOf) -> schemas.Liveness:
    """For a load balancer: this server can take requests and, if it runs workers, process their jobs."""
    status = services.health.check()
    if (error := status.write_error) is not None:
        raise by_code(error.code, error.message, hint=error.hint)
    if not (status.database and status.storage):
        missing = "database" if not status.database else "storage"
        raise Unavailable(f"The {missing} does not respond.", hint="Try again in a moment.")
    if not status.space:
        raise StorageFull("The disk of this server is almost full.", hint="Free space, or try again later.")
    if settings.worker.jobs and not status.worker:
        raise Unavailable("No worker is running.", hint="It restarts by itself; try again in a moment.")
    return schemas.Liveness(status="ready")


router.add_api_route("/health", get_health, methods=["GET"])
router.add_api_route("/livez", get_livez, methods=["GET"])
router.add_api_route("/readyz", get_readyz, methods=["GET"], responses=errors(s503="Not ready"))
for _path, _handler in (("/health", get_health), ("/livez", get_livez), ("/readyz", get_readyz)):
    router.add_api_route(_path, _handler, methods=["HEAD"], include_in_schema=False)
