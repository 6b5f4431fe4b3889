"""The worker process: its engine, its upkeep and the jobs they run, from the start to a stop in good order."""

import argparse
import os
import signal
import sys
import threading
from typing import Any

from alphareel import installation, observe, traces, wiring
from alphareel.domain.errors import AlphareelError
from alphareel.jobs.lifeline import die_with, pulse_into
from alphareel.settings import Settings, load_settings, traces_are_wanted

DECLARED_DEAD = 75  # the exit code of a worker whose jobs were given to others; it is to be started anew


def run_worker(settings: Settings, *, executor_id: str, home: str) -> None:
    """Run jobs until SIGTERM or SIGINT; does not return, because running jobs that were left must not go on."""
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    with installation.open_installation(settings) as place:
        worker = wiring.build_worker(place, executor_id)
        engine = wiring.build_engine(place, executor_id, worker)
        upkeep = wiring.build_upkeep(place, executor_id, engine, die=_die)
        place.executors.add_executor(executor_id, home=home)  # before the engine can take a job under this name
        postman, sweeper = wiring.build_postman(place), wiring.build_sweeper(place)
        stage = wiring.build_stage(place)
        engine.launch()
        upkeep.start()
        postman.start()
        sweeper.start()
        stage.start()
        observe.log(__name__).info("worker ready", executor=executor_id)
        stop.wait()
        upkeep.wind_down()
        postman.wind_down()
        worker.wind_down()
        engine.stop(grace_seconds=settings.stop_seconds)
        worker.abandon()
        postman.stop()
        sweeper.stop()
        stage.stop()
        upkeep.stop()
        place.executors.remove_executor(executor_id)
        observe.log(__name__).info("worker stopped", executor=executor_id)
    traces.switch_off()
    _leave(0)


def _die() -> None:
    observe.log(__name__).error("declared dead by another; leaving")
    _leave(DECLARED_DEAD)


def _leave(code: int) -> None:
    """End without waiting for the threads of jobs that were left; their children end with us."""
    sys.stderr.flush()
    os._exit(code)


def main(arguments: list[str] | None = None) -> Any:
    """Entry of the process that the supervisor starts: settings come from the environment."""
    parser = argparse.ArgumentParser(prog="python -m alphareel.workshop")
    parser.add_argument("--executor", required=True)
    parser.add_argument("--home", default="")
    parser.add_argument("--parent", type=int, required=True)
    parser.add_argument("--pulse", type=int)
    given = parser.parse_args(arguments)
    die_with(given.parent)
    if given.pulse is not None:
        pulse_into(given.pulse)
    settings = load_settings()
    observe.configure(settings.log_level)
    if traces_are_wanted():
        traces.switch_on("alphareel-worker")
    try:
        run_worker(settings, executor_id=given.executor, home=given.home)
    except AlphareelError as error:
        observe.log(__name__).error("worker cannot start", error=str(error))
        _leave(1)


if __name__ == "__main__":
    main()
