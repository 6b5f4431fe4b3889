"""The worker process: its engine, its upkeep and the jobs they run, from the start to a stop in good order."""

import argparse
import os
import signal
import sys
import threading
from typing import Any

from alphareel.domain.errors import AlphareelError
from alphareel.server import installation, wiring
from alphareel.server.settings import Settings, load_settings, traces_are_wanted
from alphareel.service.worker.parent_watch import exit_with_parent, pulse_into
from alphareel.telemetry.logging import configure_logging, get_logger
from alphareel.telemetry.tracing import configure_tracing, shutdown_tracing

EXIT_EVICTED = 75  # the exit code of a worker whose jobs were given to others; it is to be started anew


def run_worker(settings: Settings, *, executor_id: str, home: str) -> None:
    """Run jobs until SIGTERM or SIGINT; does not return, because running jobs that were left must not go on."""
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    with installation.open_installation(settings) as place:
        worker = wiring.build_worker(place, executor_id)
        engine = wiring.build_engine(place, executor_id, worker)
        heartbeat, reconciler = wiring.build_heartbeat_and_reconciler(
            place, executor_id, engine, on_evicted=_exit_evicted
        )
        place.executors.add_executor(executor_id, home=home)  # before the engine can take a job under this name
        postman, sweeper = wiring.build_webhook_dispatcher(place), wiring.build_sweeper(place)
        stage = wiring.build_scenario_runner(place)
        engine.launch()
        heartbeat.start()
        reconciler.start()
        postman.start()
        sweeper.start()
        stage.start()
        get_logger(__name__).info("worker ready", executor=executor_id)
        stop.wait()
        reconciler.drain()
        postman.drain()
        worker.drain()
        engine.stop(grace_seconds=settings.stop_seconds)
        worker.abandon()
        postman.stop()
        sweeper.stop()
        stage.stop()
        reconciler.stop()
        heartbeat.stop()
        place.executors.remove_executor(executor_id)
        get_logger(__name__).info("worker stopped", executor=executor_id)
    shutdown_tracing()
    _leave(0)


def _exit_evicted() -> None:
    get_logger(__name__).error("declared dead by another; leaving")
    _leave(EXIT_EVICTED)


def _leave(code: int) -> None:
    """End without waiting for the threads of jobs that were left; their children end with us."""
    sys.stderr.flush()
    os._exit(code)


def main(arguments: list[str] | None = None) -> Any:
    """Entry of the process that the supervisor starts: settings come from the environment."""
    parser = argparse.ArgumentParser(prog="python -m alphareel.server.worker_process")
    parser.add_argument("--executor", required=True)
    parser.add_argument("--home", default="")
    parser.add_argument("--parent", type=int, required=True)
    parser.add_argument("--pulse", type=int)
    given = parser.parse_args(arguments)
    exit_with_parent(given.parent)
    if given.pulse is not None:
        pulse_into(given.pulse)
    settings = load_settings()
    configure_logging(settings.log_level)
    if traces_are_wanted():
        configure_tracing("alphareel-worker")
    try:
        run_worker(settings, executor_id=given.executor, home=given.home)
    except AlphareelError as error:
        get_logger(__name__).error("worker cannot start", error=str(error))
        _leave(1)


if __name__ == "__main__":
    main()
