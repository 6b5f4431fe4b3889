"""The API of ``alphareel serve``: its application, its socket, and what runs beside the requests.

``api_process`` imports this once the worker has been started, because that takes seconds.
"""

import gc
import signal
import socket
import sys
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from functools import partial
from types import FrameType

import uvicorn
from fastapi import FastAPI

import alphareel
from alphareel.domain.errors import Unavailable
from alphareel.http.app import create_app
from alphareel.http.body_timeouts import BodyTimeouts
from alphareel.http.catalog import EngineStatus
from alphareel.http.connection_limits import (
    ConnectionLimiter,
    limit_connections,
    limit_request_head,
    limit_slow_readers,
)
from alphareel.http.large_bodies import pass_large_bodies
from alphareel.matting import tiers
from alphareel.matting.engine import ModelInfo
from alphareel.server import container
from alphareel.server.installation import (
    Installation,
    deregister_executor,
    limits_of_requests,
    open_installation,
    sweep,
)
from alphareel.server.supervisor import Supervisor
from alphareel.service.services import Services
from alphareel.service.settings import HttpSettings, ModelSettings, Settings
from alphareel.service.studio import SignInCodes
from alphareel.service.worker.spares import Spares
from alphareel.telemetry.logging import get_logger, hide_secret
from alphareel.telemetry.tracing import shutdown_tracing

DRAIN_SECONDS = 10  # seconds that running requests may take after a stop was requested


def run(
    settings: Settings,
    supervisor: Supervisor,
    children: Spares,
    *,
    home: str,
    on_open: Callable[[Callable[[str], None]], None],
) -> int:
    """Answer requests until SIGTERM or SIGINT; the exit code.

    ``home``: ID of the data folder, whose lock the caller holds. ``on_open`` receives what forgets an executor, as soon
    as the database is open. Raises Unavailable when the port is taken or the database cannot be opened.
    """
    with ExitStack() as stack:
        installation = stack.enter_context(_open(settings))
        stack.callback(supervisor.stop)  # before the installation is closed
        on_open(partial(deregister_executor, installation))
        # We hold the lock, so these executors are dead; release their jobs at once.
        installation.executors.remove_home(home)
        sweep(installation)
        listener = _listen(settings.http)
        # After binding: a start that fails on the port must not consume the only display.
        first_key = _show_first_key(installation)
        supervisor.release()
        services = container.build_services(installation, children)
        usage_flusher = container.build_usage_flusher(installation, services, supervisor.current_executor)
        renewal = container.build_renewal(services)
        installation.notifications.start()
        usage_flusher.start()
        services.health.start()
        renewal.start()
        try:
            sign_in_codes = container.build_sign_in_codes(installation, first_key) if settings.http.studio else None
            app = build_app(installation, services, sign_in_codes)
            server = _Server(app, _config(app, settings.http), supervisor)
            if sign_in_codes is not None and sys.stdout.isatty():
                link = container.studio_link(settings, sign_in_codes)
                _say(f"Open the studio: {link} (works once, within 15 minutes)")
            return _run(server, supervisor, listener)
        finally:
            services.health.stop()
            renewal.stop()
            usage_flusher.stop()
            shutdown_tracing()


def _open(settings: Settings) -> AbstractContextManager[Installation]:
    return open_installation(settings, limits_of_requests(settings.database))


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
    """Look for cycles rarely, and not among what lives as long as the process: each such look delays a request."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 50)
    sys.setswitchinterval(0.0005)


def _run(server: "_Server", supervisor: Supervisor, listener: socket.socket) -> int:
    # For a signal before uvicorn installs its own handlers. At its end it raises the signal it stopped for once more.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, server.handle_exit)
    try:
        _tune_collector()
        _announce(f"http://{_spoken(listener)}")
        server.run(sockets=[listener])
    finally:
        supervisor.stop()
    return 0 if server.started else 1


@dataclass(frozen=True)
class EngineSummary:
    """An engine as GET /v1/models shows it."""

    info: ModelInfo
    serves: Sequence[str]
    missing: str | None


class _Server(uvicorn.Server):
    """uvicorn, whose stop also stops the worker, at the same moment."""

    def __init__(self, app: FastAPI, config: uvicorn.Config, supervisor: Supervisor) -> None:
        super().__init__(config)
        self._app = app
        self._supervisor = supervisor

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        self._supervisor.ask_to_stop()
        self._app.state.context.streams.close()
        super().handle_exit(sig, frame)


def _config(app: FastAPI, http: HttpSettings) -> uvicorn.Config:
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
    )


def _engine_statuses(settings: ModelSettings) -> Sequence[EngineStatus]:
    offers = tiers.list_engines(settings.dir, settings.priorities)
    return [EngineSummary(o.info, o.serving, o.reason) for o in offers]


def _listen(http: HttpSettings) -> socket.socket:
    family = socket.AF_INET6 if ":" in http.host else socket.AF_INET
    try:
        return socket.create_server((http.host, http.port), family=family, backlog=2048)
    except OSError as error:
        raise Unavailable(
            f"The address {http.host} port {http.port} cannot be listened on: {error.strerror}.",
            hint="Set ALPHAREEL_HOST or ALPHAREEL_PORT.",
        ) from error


def _show_first_key(installation: Installation) -> str | None:
    """Its secret; None if this start made none."""
    made = container.admit_keys(installation)
    if made is None:
        return None
    _say(f"Your API key, shown this once: {made.secret}")
    return made.secret


def _announce(url: str) -> None:
    """A sentence on a terminal, else a line of the log."""
    if sys.stdout.isatty():
        _say(f"alphareel listens on {url}")
    get_logger(__name__).info("listening", url=url)


def _say(line: str) -> None:
    """Print on the terminal, not to the logs: logs are kept."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def _spoken(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
