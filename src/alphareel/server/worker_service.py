"""``alphareel worker``: a supervised worker process without the HTTP API."""

import signal
import threading

from alphareel.server.data_folder import load_installation_id, lock_data_dir, make_private_folder
from alphareel.server.installation import (
    deregister_executor,
    open_installation,
    sweep,
    sweep_work,
)
from alphareel.server.settings import as_environment
from alphareel.server.supervisor import Supervisor
from alphareel.service.periodic import PeriodicTask
from alphareel.service.settings import Settings
from alphareel.service.worker.confinement import hide_process, warn_of_root
from alphareel.telemetry.logging import configure_service_logging, get_logger

_SWEEP_SECONDS = 3600.0


def work(settings: Settings) -> int:
    """Process jobs until SIGTERM or SIGINT; the exit code. Raises Unavailable when the data folder is taken."""
    configure_service_logging(settings.log.level)
    make_private_folder(settings.storage.data_dir)
    hide_process()
    stopping = threading.Event()
    with lock_data_dir(settings.storage.data_dir) as lock, open_installation(settings) as installation:
        warn_of_root()
        home = load_installation_id(settings.storage.data_dir)
        installation.executors.remove_home(home)  # we hold the lock, so these executors are dead
        sweep(installation)
        supervisor = Supervisor(
            as_environment(settings),
            home=home,
            lock=lock,
            stop_seconds=settings.worker.stop_seconds,
            hang_seconds=settings.worker.hang_seconds,
            deregister=lambda executor_id: deregister_executor(installation, executor_id),
            heartbeat_file=settings.storage.heartbeat,
        )
        sweeper = PeriodicTask(
            "sweep work", lambda: sweep_work(settings.storage, supervisor.current_executor), seconds=_SWEEP_SECONDS
        )
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: stopping.set())
        supervisor.start()
        supervisor.release()
        sweeper.start()
        get_logger(__name__).info("working", queues=settings.worker.queues, slots=settings.worker.jobs)
        try:
            stopping.wait()
        finally:
            sweeper.stop()
            supervisor.stop()
    return 0
