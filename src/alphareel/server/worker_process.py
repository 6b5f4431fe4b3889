"""The worker process: job engine, heartbeat, reconciler, webhook dispatcher and sweepers, from start to shutdown."""

import argparse
import os
import signal
import sys
import threading
from typing import Any

from alphareel.domain.errors import AlphareelError
from alphareel.server import container
from alphareel.server.installation import open_installation
from alphareel.server.settings import load_settings, traces_are_wanted
from alphareel.service.settings import Settings
from alphareel.service.worker.parent_watch import exit_with_parent, pulse_into
from alphareel.telemetry.logging import configure_logging, get_logger
from alphareel.telemetry.tracing import configure_tracing, shutdown_tracing

EXIT_EVICTED = 75  # another executor took over its jobs; the supervisor starts a new worker


def run_worker(settings: Settings, *, executor_id: str, home: str) -> None:
    """Run jobs until SIGTERM or SIGINT. Does not return: abandoned job threads must not continue."""
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    with open_installation(settings) as installation:
        worker = container.build_worker(installation, executor_id)
        engine = container.build_engine(installation, executor_id, worker)
        heartbeat, reconciler = container.build_heartbeat_and_reconciler(
            installation, executor_id, engine, on_evicted=_exit_evicted
        )
        installation.executors.add_executor(executor_id, home=home)  # before the engine can claim a job under this ID
        dispatcher, sweeper = container.build_webhook_dispatcher(installation), container.build_sweeper(installation)
        scenarios = container.build_scenario_runner(installation)
        engine.launch()
        heartbeat.start()
        reconciler.start()
        dispatcher.start()
        sweeper.start()
        scenarios.start()
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
        reconciler.stop()
        heartbeat.stop()
        installation.executors.remove_executor(executor_id)
        get_logger(__name__).info("worker stopped", executor=executor_id)
    shutdown_tracing()
    _exit(0)


def _exit_evicted() -> None:
    get_logger(__name__).error("evicted by another executor; exiting")
    _exit(EXIT_EVICTED)


def _exit(code: int) -> None:
    """Exit without waiting for threads of abandoned jobs; their child processes exit with this one."""
    sys.stderr.flush()
    os._exit(code)


def main(arguments: list[str] | None = None) -> Any:
    """Entry point of the process that the supervisor starts. Settings come from the environment."""
    parser = argparse.ArgumentParser(prog="python -m alphareel.server.worker_process")
    parser.add_argument("--executor", required=True)
    parser.add_argument("--home", default="")
    parser.add_argument("--parent", type=int, required=True)
    parser.add_argument("--pulse", type=int)
    options = parser.parse_args(arguments)
    exit_with_parent(options.parent)
    if options.pulse is not None:
        pulse_into(options.pulse)
    settings = load_settings()
    configure_logging(settings.log.level)
    if traces_are_wanted():
        configure_tracing("alphareel-worker")
    try:
        run_worker(settings, executor_id=options.executor, home=options.home)
    except AlphareelError as error:
        get_logger(__name__).error("worker cannot start", error=str(error))
        _exit(1)


if __name__ == "__main__":
    main()
