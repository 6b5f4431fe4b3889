"""The worker process: job engine, heartbeat, reconciler, webhook dispatcher and sweepers, from start to shutdown."""

import argparse
import json
import logging
import os
import signal
import socket
import threading
from typing import Any

from alphareel.db.notifications import JOB, QUEUE
from alphareel.domain.errors import AlphareelError
from alphareel.server import container
from alphareel.server.installation import open_installation
from alphareel.server.settings import settings_from, traces_are_wanted
from alphareel.service.settings import Settings
from alphareel.service.worker.confinement import hide_process
from alphareel.service.worker.parent_watch import bind_to_parent, first_line, pulse_into, watch_input
from alphareel.telemetry.logging import configure_service_logging, get_logger
from alphareel.telemetry.tracing import configure_tracing, shutdown_tracing

EXIT_EVICTED = 75  # another executor took over its jobs; the supervisor starts a new worker


def run_worker(settings: Settings, *, executor_id: str, home: str, template: socket.socket | None = None) -> None:
    """Run jobs until SIGTERM or SIGINT. Does not return: abandoned job threads must not continue."""
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    spares = container.build_spares(settings, executor_id, template)
    spares.start()
    with open_installation(settings) as installation:
        remote = container.build_remote_tasks(installation, executor_id, spares)
        worker = container.build_worker(installation, executor_id, spares, remote)
        engine = container.build_engine(installation, executor_id, worker, remote.more_slots)
        heartbeat, reconciler = container.build_heartbeat_and_reconciler(
            installation, executor_id, engine, on_evicted=_exit_evicted
        )
        dispatcher, sweeper = container.build_webhook_dispatcher(installation), container.build_sweeper(installation)
        scenarios = container.build_scenario_runner(installation, spares)
        usage = container.build_spare_usage(settings, spares)
        # On record before the engine can claim a job under this ID, and not sooner: then it counts as a worker.
        engine.launch(lambda: installation.executors.add_executor(executor_id, home=home))

        def wake(topic: str) -> None:
            if topic == QUEUE:
                engine.wake()
            elif topic.startswith(JOB):
                dispatcher.wake()

        installation.notifications.subscribe(wake)
        installation.notifications.start()
        heartbeat.start()
        reconciler.start()
        dispatcher.start()
        sweeper.start()
        scenarios.start()
        usage.start()
        get_logger(__name__).info("worker ready", executor=executor_id)
        stop.wait()
        reconciler.drain()
        dispatcher.drain()
        worker.drain()
        engine.stop(grace_seconds=settings.worker.stop_seconds)
        worker.abandon()
        dispatcher.stop()
        sweeper.stop()
        scenarios.stop()
        usage.stop()
        reconciler.stop()
        heartbeat.stop()
        spares.stop()
        installation.executors.remove_executor(executor_id)
        get_logger(__name__).info("worker stopped", executor=executor_id)
    shutdown_tracing()
    _exit(0)


def _exit_evicted() -> None:
    get_logger(__name__).error("evicted by another executor; exiting")
    _exit(EXIT_EVICTED)


def _exit(code: int) -> None:
    """Exit without waiting for threads of abandoned jobs; their child processes exit with this one."""
    logging.shutdown()
    os._exit(code)


def main(arguments: list[str] | None = None) -> Any:
    """Entry point of the process that the supervisor starts. Settings come as the first line of standard input."""
    parser = argparse.ArgumentParser(prog="python -m alphareel.server.worker_process")
    parser.add_argument("--executor", required=True)
    parser.add_argument("--home", default="")
    parser.add_argument("--parent", type=int, required=True)
    parser.add_argument("--pulse", type=int)
    parser.add_argument("--template", type=int)
    options = parser.parse_args(arguments)
    hide_process()
    bind_to_parent(options.parent)
    if options.pulse is not None:
        pulse_into(options.pulse)
    settings = settings_from(json.loads(first_line()))
    watch_input()
    template = None if options.template is None else socket.socket(fileno=options.template)
    configure_service_logging(settings.log.level)
    if traces_are_wanted():
        configure_tracing("alphareel-worker")
    try:
        run_worker(settings, executor_id=options.executor, home=options.home, template=template)
    except AlphareelError as error:
        get_logger(__name__).error("worker cannot start", error=str(error))
        _exit(1)


if __name__ == "__main__":
    main()
