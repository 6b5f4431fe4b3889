"""The application context, available to every request handler."""

from dataclasses import dataclass
from typing import Annotated, cast

from fastapi import Depends, Request

from alphareel.http.auth_throttle import AuthFailureLimiter
from alphareel.http.catalog import ListEngines
from alphareel.http.metrics import Metrics
from alphareel.http.rate_limits import Limiter
from alphareel.http.sse import StreamSlots
from alphareel.http.thread_pools import UploadPool
from alphareel.service.services import Services
from alphareel.service.settings import Settings
from alphareel.service.studio import SignInCodes


@dataclass
class AppContext:
    """One per application, stored as ``app.state.context``."""

    services: Services
    settings: Settings
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


async def _settings(request: Request) -> Settings:
    return context_of(request).settings


ServicesOf = Annotated[Services, Depends(_services)]
SettingsOf = Annotated[Settings, Depends(_settings)]
