"""Builds the ASGI application: routes, middleware and error handlers."""

from functools import partial

from fastapi import APIRouter, Depends, FastAPI

from alphareel.http import errors, idempotency, sse
from alphareel.http.auth import require_key
from alphareel.http.auth_throttle import AuthFailureLimiter
from alphareel.http.catalog import ListEngines
from alphareel.http.context import AppContext
from alphareel.http.metrics import Metrics
from alphareel.http.middleware.head import HeadMiddleware
from alphareel.http.middleware.job_reads import JobReadMiddleware
from alphareel.http.middleware.lingering_close import LingeringCloseMiddleware
from alphareel.http.middleware.request_log import RequestLogMiddleware
from alphareel.http.middleware.storable_text import StorableTextMiddleware
from alphareel.http.middleware.tus import TusMiddleware
from alphareel.http.openapi import document
from alphareel.http.openapi import errors as error_responses
from alphareel.http.rate_limits import Limiter
from alphareel.http.routes import (
    admin,
    analyses,
    batches,
    corrections,
    embed,
    estimates,
    events,
    exports,
    files,
    health,
    jobs,
    legacy,
    metrics,
    models,
    multipart_uploads,
    proofs,
    runners,
    studio,
    tus,
    uploads,
    usage,
    webhooks,
)
from alphareel.http.sse import StreamSlots
from alphareel.http.thread_pools import UploadPool
from alphareel.http.token_bucket import SharedBuckets
from alphareel.service.services import Services
from alphareel.service.settings import HttpSettings, Settings
from alphareel.service.studio import SignInCodes
from alphareel.service.worker.spare_usage import read_usage


def create_app(
    services: Services,
    settings: Settings,
    *,
    list_engines: ListEngines = tuple,
    sign_in_codes: SignInCodes | None = None,
    version: str = "0",
) -> FastAPI:
    """The HTTP API over ``services``. Every path under /v1 requires a key, because its router does.

    ``sign_in_codes``: of the studio; None if it has none. Request processes count requests together, in files of the
    folder ``settings.storage.shared``.
    """
    shared = settings.storage.shared if settings.storage.process else None
    buckets = None if shared is None else SharedBuckets(shared / "buckets")
    app = FastAPI(
        title="alphareel",
        version=version,
        docs_url=None,  # FastAPI's pages load scripts from another host
        redoc_url=None,
        redirect_slashes=False,  # a redirected POST becomes a GET in many clients
        generate_unique_id_function=lambda route: route.name,
    )
    context = app.state.context = AppContext(
        services=services,
        settings=settings,
        list_engines=list_engines,
        rate_limiter=Limiter(settings.rate_limits, shared=buckets),
        auth_failures=AuthFailureLimiter(settings.rate_limits.auth_failures, buckets=buckets),
        metrics=Metrics(services.stats, shared=shared, spares=partial(read_usage, settings.storage.spares)),
        upload_pool=UploadPool(),
        streams=StreamSlots(settings.http.streams_per_key),
        sign_in_codes=sign_in_codes,
    )
    app.openapi = partial(document, app)  # type: ignore[method-assign]
    errors.install(app)
    idempotency.install(app)
    sse.install(app)
    _include_routers(app, settings.http)
    _add_middleware(app, context)
    return app


def _include_routers(app: FastAPI, settings: HttpSettings) -> None:
    app.include_router(tus.options_router)
    app.include_router(_v1())
    app.include_router(admin.router)
    app.include_router(runners.admin_router)
    app.include_router(runners.router)
    app.include_router(files.router)
    app.include_router(embed.player_router)
    app.include_router(health.router)
    app.include_router(metrics.router)
    if settings.studio:
        app.include_router(studio.router)
    app.include_router(legacy.lasting)
    if settings.legacy_routes:
        app.include_router(legacy.router)


def _add_middleware(app: FastAPI, context: AppContext) -> None:
    """The last one added is the outermost."""
    app.add_middleware(JobReadMiddleware, context=context)
    app.add_middleware(StorableTextMiddleware)
    app.add_middleware(HeadMiddleware, router=app.router)
    app.add_middleware(TusMiddleware)
    app.add_middleware(
        RequestLogMiddleware,
        record_call=context.services.calls.record,
        observe_request=context.metrics.observe_request,
        peek_rate_limit=context.rate_limiter.peek_address,
    )
    app.add_middleware(
        LingeringCloseMiddleware,
        max_bytes=2 * context.settings.limits.max_upload_bytes,
        seconds=context.settings.http.drain_seconds,
    )


def _v1() -> APIRouter:
    responses = error_responses(s401="No key, or an unknown one")
    router = APIRouter(prefix="/v1", dependencies=[Depends(require_key)], responses=responses)
    for resource in (
        tus,
        multipart_uploads,
        uploads,
        estimates,
        jobs,
        batches,
        proofs,
        exports,
        embed,
        corrections,
        analyses,
        events,
        models,
        usage,
        webhooks,
    ):
        router.include_router(resource.router)
    return router
