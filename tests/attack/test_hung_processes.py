"""Processes that hang instead of dying: they are seen, told, killed and replaced, and their jobs go on."""

import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from alphareel.testing.service import wait_for

from .conftest import AttackedService

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(900)]


def test_a_halted_worker_is_told_at_once_and_replaced_with_its_job(
    serve: Callable[..., AttackedService], clip: Path
) -> None:
    service = serve()
    assert service.workers() == 1
    job_id = service.submit(service.upload(clip))
    child = service.halt_while_writing()
    worker = service.worker()
    worker.suspend()
    wait_for(lambda: not service.is_ready())
    assert worker.is_running(), "it is told before the worker is replaced"
    assert service.call("GET", "/health")["status"] == "degraded"
    assert service.workers() == 0
    wait_for(lambda: not worker.is_running())
    wait_for(lambda: not child.is_running() or child.status() == psutil.STATUS_ZOMBIE)
    wait_for(service.is_ready)
    assert service.worker().pid != worker.pid
    done = service.wait_for_end(job_id)
    assert (done["status"], service.reasons(job_id).count("completed")) == ("completed", 1)
    assert service.reasons(job_id).count("attempt began") == 2
    command = service.worker().cmdline()
    second = command[command.index("--executor") + 1]

    def left_behind() -> list[Path]:
        """What either worker left, but for the process that waits."""
        return [path for path in (service.data_dir / "work").iterdir() if not path.name.startswith(f"{second}.spare.")]

    wait_for(lambda: left_behind() == [])


def test_a_halted_job_process_is_stopped_and_its_job_tried_again(
    serve: Callable[..., AttackedService], clip: Path
) -> None:
    service = serve(JOB_PROGRESS_SECONDS="20")
    job_id = service.submit(service.upload(clip))
    child = service.halt_while_writing()
    worker = service.worker()
    wait_for(lambda: not child.is_running() or child.status() == psutil.STATUS_ZOMBIE)
    assert service.wait_for_end(job_id)["status"] == "completed"
    assert service.worker().pid == worker.pid


def test_a_halt_of_the_whole_service_costs_no_worker(serve: Callable[..., AttackedService]) -> None:
    """As when a laptop sleeps or a virtual machine is moved."""
    service = serve(HANG_SECONDS="5")
    worker = service.worker()
    both = [worker, psutil.Process(service.process.pid)]
    for process in reversed(both):
        process.suspend()
    time.sleep(12)
    both[1].resume()
    time.sleep(1)
    both[0].resume()
    wait_for(service.is_ready)
    time.sleep(4)
    assert service.worker().pid == worker.pid
    assert service.process.poll() is None
