"""Processes that hang instead of dying: they are seen, told, killed and replaced, and their jobs go on."""

import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from alphareel.testing.service import wait_for

from .conftest import AttackedService

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(180)]


def test_a_halted_worker_is_told_at_once_and_replaced_with_its_job(
    serve: Callable[..., AttackedService], clip: Path
) -> None:
    service = serve()
    assert service.workers() == 1
    job_id = service.submit(service.upload(clip))
    child = service.halt_while_writing()
    worker = service.worker()
    worker.suspend()
    began = time.monotonic()
    wait_for(lambda: not service.is_ready(), 20)
    told = time.monotonic() - began
    assert service.call("GET", "/health")["status"] == "degraded"
    assert service.workers() == 0
    assert told < 15, "a few seconds, and some for a busy machine"
    wait_for(lambda: not worker.is_running(), 30)
    assert time.monotonic() - began < 30
    wait_for(lambda: not child.is_running() or child.status() == psutil.STATUS_ZOMBIE, 10)
    wait_for(service.is_ready, 40)
    assert service.worker().pid != worker.pid
    done = service.wait_for_end(job_id)
    assert (done["status"], service.reasons(job_id).count("completed")) == ("completed", 1)
    assert service.reasons(job_id).count("attempt began") == 2
    command = service.worker().cmdline()
    second = command[command.index("--executor") + 1]
    work = [path for path in (service.data_dir / "work").iterdir() if not path.name.startswith(f"{second}.spare.")]
    assert work == [], "neither worker left files, but for the process that waits"


def test_a_halted_job_process_is_stopped_and_its_job_tried_again(
    serve: Callable[..., AttackedService], clip: Path
) -> None:
    service = serve(JOB_PROGRESS_SECONDS="5")
    job_id = service.submit(service.upload(clip))
    child = service.halt_while_writing()
    worker = service.worker()
    wait_for(lambda: not child.is_running() or child.status() == psutil.STATUS_ZOMBIE, 30)
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
    wait_for(service.is_ready, 20)
    time.sleep(4)
    assert service.worker().pid == worker.pid
    assert service.process.poll() is None
