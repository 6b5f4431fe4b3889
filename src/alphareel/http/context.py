"""The application context, available to every request handler."""

from dataclasses import dataclass
from typing import Annotated, cast

from fastapi import Depends, Request

from alphareel.http.auth_throttle import AuthFailureLimiter
from alphareel.http.catalog import ListEngines
from alphareel.http.config import HttpConfig
from alphareel.http.metrics import Metrics
from alphareel.http.rate_limits import Limiter
from alphareel.http.sse import StreamSlots
from alphareel.http.thread_pools import UploadPool
from alphareel.service.services import Services
from alphareel.service.studio import SignInCodes


@dataclass
class AppContext:
    """One per application, stored as ``app.state.context``."""

    services: Services
    config: HttpConfig
    list_engines: ListEngines
    rate_limiter: Limiter
    auth_failures: AuthFailureLimiter
    metrics: Metrics
    upload_pool: UploadPool
    streams: StreamSlots
    sign_in_codes: SignInCodes | None


def context_of(request: Request) -> AppContext:
    return cast(AppContext, request.app.state.context)


async def _services(request: Request) -> Services:
    return context_of(request).services


async def _config(request: Request) -> HttpConfig:
    return context_of(request).config


ServicesOf = Annotated[Services, Depends(_services)]
ConfigOf = Annotated[HttpConfig, Depends(_config)]
