"""``alphareel serve``: the API in this process, the worker beside it, from the first key to the last request."""

import gc
import os
import signal
import socket
import sys
from collections.abc import Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
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
from alphareel.matting import tiers
from alphareel.matting.engine import ModelInfo
from alphareel.server import container
from alphareel.server.installation import (
    Installation,
    deregister_executor,
    limits_of_requests,
    make_private_folder,
    open_installation,
    sweep,
)
from alphareel.server.settings import as_environment, traces_are_wanted, unknown_variables
from alphareel.server.supervisor import Supervisor, load_installation_id, lock_data_dir
from alphareel.service.services import Services
from alphareel.service.settings import HttpSettings, ModelSettings, Settings
from alphareel.service.studio import SignInCodes
from alphareel.service.worker.confinement import hide_process
from alphareel.telemetry.logging import configure_logging, get_logger, hide_secret
from alphareel.telemetry.tracing import configure_tracing, shutdown_tracing

DRAIN_SECONDS = 10  # seconds that running requests may take after a stop was requested


def serve(settings: Settings) -> int:
    """Serve until SIGTERM or SIGINT; the exit code. Raises Unavailable when the folder or the port is taken."""
    configure_logging(settings.log.level)
    if traces_are_wanted():
        configure_tracing("alphareel-api")
    _warn_of_unknown_settings()
    make_private_folder(settings.storage.data_dir)
    hide_process()
    with ExitStack() as stack:
        lock = stack.enter_context(lock_data_dir(settings.storage.data_dir))
        home = load_installation_id(settings.storage.data_dir)
        children = container.build_probe_children(settings)
        stack.callback(children.stop)
        children.start()
        opened: list[Installation] = []  # empty while the service starts, when no worker has begun

        def deregister(executor_id: str) -> None:
            for each in opened:
                deregister_executor(each, executor_id)

        supervisor = Supervisor(
            as_environment(settings),
            home=home,
            lock=lock,
            stop_seconds=settings.worker.stop_seconds,
            hang_seconds=settings.worker.hang_seconds,
            deregister=deregister,
            heartbeat_file=settings.storage.heartbeat,
            connect_template=children.connect,
        )
        stack.callback(supervisor.stop)
        if settings.worker.jobs > 0:
            supervisor.start()  # its worker loads its modules while this process goes on
        installation = stack.enter_context(_open(settings))
        stack.callback(supervisor.stop)  # before the installation is closed
        opened.append(installation)
        installation.executors.remove_home(
            home
        )  # we hold the lock, so these executors are dead; release their jobs at once
        sweep(installation)
        listener = _listen(settings.http)
        first_key = _show_first_key(
            installation
        )  # after binding: a start that fails on the port must not consume the only display
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
                _say(
                    f"Open the studio: {container.studio_link(settings, sign_in_codes)} (works once, within 15 minutes)"
                )
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
                limit_connections(ConnectionLimiter(http.connections_per_address, http.trusted_proxies)),
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


def _warn_of_unknown_settings() -> None:
    for name, nearest in unknown_variables(os.environ).items():
        hint = f"Did you mean {nearest}?" if nearest else "docs/settings.md describes every setting."
        get_logger(__name__).warning("unknown setting is ignored", variable=name, hint=hint)


def _show_first_key(installation: Installation) -> str | None:
    """Its secret; None if this start made none."""
    made = container.admit_keys(installation)
    if made is None:
        return None
    _say(f"Your API key, shown this once: {made.secret}")
    return made.secret


def _announce(url: str) -> None:
    """To a person at the terminal in words, to everybody else as a line of the log."""
    if sys.stdout.isatty():
        _say(f"alphareel listens on {url}")
    get_logger(__name__).info("listening", url=url)


def _say(line: str) -> None:
    """Tell the person at the console; never through the logs, which are kept."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def _spoken(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
