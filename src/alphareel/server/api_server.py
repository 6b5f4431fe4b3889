"""The API of ``alphareel serve``: its application, its socket, and its background threads.

``api_process`` imports this once the worker has been started, because that takes seconds.
"""

import contextlib
import gc
import math
import os
import shutil
import signal
import socket
import sys
from collections.abc import Callable, Mapping, Sequence
from types import FrameType

import uvicorn
from fastapi import FastAPI

import alphareel
from alphareel.http.app import create_app
from alphareel.http.body_timeouts import BodyTimeouts
from alphareel.http.connection_limits import (
    ConnectionLimiter,
    limit_connections,
    limit_request_head,
    limit_slow_readers,
)
from alphareel.http.large_bodies import pass_large_bodies
from alphareel.http.metrics import share_counts
from alphareel.http.schemas.models import EngineStatus
from alphareel.matting import tiers
from alphareel.matting.engine import ModelInfo
from alphareel.server import container
from alphareel.server.installation import (
    Installation,
    limits_of_requests,
    open_installation,
)
from alphareel.server.start import DRAIN_SECONDS, OnOpen, announce, prepare
from alphareel.server.supervisor import Supervisor
from alphareel.service.services import Services
from alphareel.service.settings import HttpSettings, ModelSettings, Settings
from alphareel.service.studio import SignInCodes
from alphareel.service.worker.parent_watch import PULSE_SECONDS
from alphareel.service.worker.spares import Spares
from alphareel.telemetry.logging import hide_secret
from alphareel.telemetry.tracing import shutdown_tracing


def run(settings: Settings, supervisor: Supervisor, children: Spares, *, home: str, on_open: OnOpen) -> int:
    """Answer requests until SIGTERM or SIGINT; the exit code. ``home``, ``on_open``: as for ``prepare``.

    Raises Unavailable when the port is taken or the database cannot be opened.
    """
    with prepare(settings, supervisor, home=home, on_open=on_open) as prepared:
        return _answer(
            prepared.installation,
            children,
            prepared.listener,
            first_key=prepared.first_key,
            sweeps=prepared.sweeps,
            on_stop=supervisor.ask_to_stop,
        )


def run_request_process(
    settings: Settings, children: Spares, listener: socket.socket, *, first_key: str | None, pulse: int | None
) -> int:
    """Answer requests of this listening socket, beside other processes, until SIGTERM; the exit code.

    ``first_key``: secret that this start of the service has shown. ``pulse``: where to write a sign of life.
    """
    shutil.rmtree(settings.storage.incoming, ignore_errors=True)  # of the process that this one replaces
    share_counts(settings.storage.shared, settings.storage.process)
    with open_installation(settings, limits_of_requests(settings.database)) as installation:
        return _answer(installation, children, listener, first_key=first_key, sweeps={}, pulse=pulse)


def _answer(
    installation: Installation,
    children: Spares,
    listener: socket.socket,
    *,
    first_key: str | None,
    sweeps: Mapping[str, Callable[[], None]],
    on_stop: Callable[[], None] = lambda: None,
    pulse: int | None = None,
) -> int:
    """Answer requests in this process."""
    settings = installation.settings
    services = container.build_services(installation, children)
    usage_flusher = container.build_usage_flusher(services, sweeps)
    renewal = container.build_renewal(services)
    installation.notifications.start()
    usage_flusher.start()
    services.health.start()
    renewal.start()
    try:
        sign_in_codes = container.build_sign_in_codes(installation, first_key) if settings.http.studio else None
        app = build_app(installation, services, sign_in_codes)
        server = _Server(app, _config(app, settings.http, pulse), on_stop)
        return _run(server, listener, announced=not settings.storage.process)
    finally:
        services.health.stop()
        renewal.stop()
        usage_flusher.stop()
        shutdown_tracing()


def build_app(installation: Installation, services: Services, sign_in_codes: SignInCodes | None = None) -> FastAPI:
    """The HTTP application for these services. ``sign_in_codes``: of the studio."""
    settings = installation.settings
    if settings.access.admin_token is not None:
        hide_secret(settings.access.admin_token.get_secret_value())
    return create_app(
        services,
        settings,
        version=alphareel.__version__,
        list_engines=lambda: _engine_statuses(settings.models),
        sign_in_codes=sign_in_codes,
    )


def _tune_collector() -> None:
    """Collect garbage rarely, and skip objects that live as long as the process: each run delays a request."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 50)
    sys.setswitchinterval(0.0005)


def _run(server: "_Server", listener: socket.socket, *, announced: bool) -> int:
    # For a signal before uvicorn installs its own handlers. At its end it raises the signal it stopped for once more.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, server.handle_exit)
    _tune_collector()
    if announced:
        announce(listener)
    server.run(sockets=[listener])
    return 0 if server.started else 1


class _Server(uvicorn.Server):
    """uvicorn. ``on_stop`` stops what runs beside it, at the same moment."""

    def __init__(self, app: FastAPI, config: uvicorn.Config, on_stop: Callable[[], None]) -> None:
        super().__init__(config)
        self._app = app
        self._on_stop = on_stop

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        self._on_stop()
        self._app.state.context.streams.close()
        super().handle_exit(sig, frame)


def _config(app: FastAPI, http: HttpSettings, pulse: int | None) -> uvicorn.Config:
    async def beat() -> None:
        """Runs in the event loop, so that its reader notices when the loop hangs."""
        with contextlib.suppress(OSError):  # full, or nobody reads any more
            os.write(pulse, b".")  # type: ignore[arg-type]

    if pulse is not None:
        os.set_blocking(pulse, False)
    return uvicorn.Config(
        app,
        http=limit_request_head(
            limit_slow_readers(
                limit_connections(
                    ConnectionLimiter(http.connections_per_address, http.trusted_proxies), pass_large_bodies()
                ),
                timeouts=BodyTimeouts.of_responses(http),
            )
        ),
        forwarded_allow_ips=[str(network) for network in http.trusted_proxies],
        ws="none",
        log_config=None,
        access_log=False,  # the wire logs requests itself, with their ids
        server_header=False,
        timeout_graceful_shutdown=DRAIN_SECONDS,
        callback_notify=None if pulse is None else beat,
        timeout_notify=math.ceil(PULSE_SECONDS),
    )


def _engine_statuses(settings: ModelSettings) -> list[EngineStatus]:
    engines = tiers.list_engines(settings.dir, settings.priorities)
    return [engine_status(engine.info, engine.serving, engine.reason) for engine in engines]


def engine_status(info: ModelInfo, serves: Sequence[str], missing: str | None) -> EngineStatus:
    """An engine as GET /v1/models shows it."""
    return EngineStatus(
        name=info.name,
        version=info.version,
        subject=info.subject,
        summary=info.summary,
        code_license=info.code_license,
        weights_license=info.weights_license,
        training_data=info.training_data,
        author_statement=info.author_statement,
        permissive=info.permissive,
        serves=list(serves),
        missing=missing,
    )
