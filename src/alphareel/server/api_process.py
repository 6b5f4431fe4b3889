"""The process of ``alphareel serve``: it starts the worker, then the API, and stops both.

Everything else is imported once the worker has been started, so that both load their modules at the same time.
"""

import math
import os
from collections.abc import Callable
from contextlib import ExitStack

from alphareel.server.data_folder import load_installation_id, lock_data_dir, make_private_folder
from alphareel.server.settings import as_environment, traces_are_wanted, unknown_variables
from alphareel.server.supervisor import Supervisor
from alphareel.service.settings import Settings
from alphareel.service.worker.confinement import hide_process, warn_of_root
from alphareel.service.worker.spares import SpareConfig, Spares
from alphareel.telemetry.logging import configure_service_logging, get_logger
from alphareel.telemetry.tracing import configure_tracing


def serve(settings: Settings) -> int:
    """Serve until SIGTERM or SIGINT; the exit code. Raises Unavailable when the folder or the port is taken."""
    configure_service_logging(settings.log.level)
    if traces_are_wanted():
        configure_tracing("alphareel-api")
    _warn_of_unknown_settings()
    make_private_folder(settings.storage.data_dir)
    hide_process()
    with ExitStack() as stack:
        lock = stack.enter_context(lock_data_dir(settings.storage.data_dir))
        warn_of_root()
        home = load_installation_id(settings.storage.data_dir)
        children = _probe_children(settings)
        stack.callback(children.stop)
        children.start()
        opened: list[Callable[[str], None]] = []  # empty while the service starts, when no worker has begun

        def deregister(executor_id: str) -> None:
            for forget in opened:
                forget(executor_id)

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
            supervisor.start()
        if settings.http.processes > 1:
            from alphareel.server import request_supervisor  # noqa: PLC0415

            return request_supervisor.run(settings, supervisor, children, home=home, lock=lock, on_open=opened.append)
        from alphareel.server import api_server  # noqa: PLC0415

        return api_server.run(settings, supervisor, children, home=home, on_open=opened.append)


def _probe_children(settings: Settings) -> Spares:
    """Child processes that inspect uploads; the worker processes share their template process."""
    return Spares(SpareConfig(settings.storage.work, count=0, idle_seconds=math.inf, confined=settings.worker.confined))


def _warn_of_unknown_settings() -> None:
    for name, nearest in unknown_variables(os.environ).items():
        hint = f"Did you mean {nearest}?" if nearest else "docs/settings.md describes every setting."
        get_logger(__name__).warning("unknown setting is ignored", variable=name, hint=hint)
