"""Keeps the request processes of a service running. Imports neither FastAPI nor uvicorn."""

import signal
import socket
import threading
from types import FrameType

from alphareel.server.settings import as_environment
from alphareel.server.start import DRAIN_SECONDS, OnOpen, PreparedStart, announce, prepare
from alphareel.server.supervisor import SETTING_PREFIX, Supervisor
from alphareel.service.settings import Settings
from alphareel.service.usage.service import UsageFlusher
from alphareel.service.worker.spares import Spares

REQUEST_MODULE = "alphareel.server.request_process"
_LOOK_SECONDS = 0.05
FIRST_KEY, PROCESS_NAME = f"{SETTING_PREFIX}FIRST_KEY", f"{SETTING_PREFIX}PROCESS"
"""What a request process gets beside the settings, and as secretly."""


def run(settings: Settings, supervisor: Supervisor, children: Spares, *, home: str, lock: int, on_open: OnOpen) -> int:
    """Keep request processes running until SIGTERM or SIGINT; the exit code. ``home``, ``on_open``: as for ``prepare``.

    They inherit the listening socket: connections that one of them has not accepted wait for the others. ``lock``: of
    the data folder. Raises Unavailable when the port is taken or the database cannot be opened.
    """
    with prepare(settings, supervisor, home=home, on_open=on_open) as prepared:
        sweeper = UsageFlusher(lambda: None, prepared.sweeps)
        sweeper.start()
        try:
            _supervise(supervisor, _processes(settings, prepared, children, home=home, lock=lock), prepared.listener)
        finally:
            sweeper.stop()
    return 0


def _processes(
    settings: Settings, prepared: PreparedStart, children: Spares, *, home: str, lock: int
) -> list[Supervisor]:
    variables = as_environment(settings)
    if prepared.first_key is not None:
        variables[FIRST_KEY] = prepared.first_key
    return [
        Supervisor(
            variables | {PROCESS_NAME: f"api-{number}"},
            home=home,
            lock=lock,
            stop_seconds=DRAIN_SECONDS,
            hang_seconds=settings.worker.hang_seconds,
            deregister=lambda _: None,
            connect_template=children.connect,
            module=REQUEST_MODULE,
            kind="request process",
            inherited={"--listener": prepared.listener.fileno()},
        )
        for number in range(settings.http.processes)
    ]


def _supervise(worker: Supervisor, processes: list[Supervisor], listener: socket.socket) -> None:
    stopping = threading.Event()

    def stop(_number: int, _frame: FrameType | None) -> None:
        stopping.set()
        for each in (worker, *processes):
            each.ask_to_stop()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, stop)
    for process in processes:
        process.release()
        process.start()
    while not stopping.wait(_LOOK_SECONDS):
        if any(process.begun.is_set() for process in processes):
            announce(listener)
            stopping.wait()
    listener.close()  # those that still answer have closed theirs: clients are refused instead of waiting
    for process in processes:
        process.stop()
