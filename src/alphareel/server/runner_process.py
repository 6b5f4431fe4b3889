"""``alphareel worker --join``: takes tasks from a server over HTTPS with a token, without database, queue or storage.

Each slot is a thread: it leases a task, fetches its inputs, runs it in a confined child process as a worker does,
returns the files and the result. A thread beside it renews the lease; a lease that is lost ends the child process.
"""

import contextlib
import ipaddress
import math
import os
import re
import shutil
import signal
import threading
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import httpx2

from alphareel import __version__
from alphareel.domain.clip import Progress
from alphareel.domain.errors import (
    AlphareelError,
    FetchFailed,
    InternalError,
    InvalidRequest,
    InvalidRunnerToken,
    InvalidState,
    MissingRunnerToken,
    Unavailable,
    by_code,
)
from alphareel.matting.tiers import list_engines
from alphareel.server.data_folder import make_private_folder
from alphareel.service.settings import Settings
from alphareel.service.worker import child_process
from alphareel.service.worker.child_process import Children, ResourceLimits
from alphareel.service.worker.confinement import hide_process
from alphareel.service.worker.events import ErrorEvent, InvalidMessage, event_to_values
from alphareel.service.worker.messages import Preload
from alphareel.service.worker.spares import SpareConfig, Spares
from alphareel.service.worker.tasks import RunTask, run_task_from_values, task_inputs, with_inputs
from alphareel.telemetry.logging import configure_service_logging, get_logger, hide_secret

_WAIT_SECONDS = 20
_LOOK_SECONDS = 1.0  # between two looks at whether there is something to tell the server
_TIMEOUT = httpx2.Timeout(30.0, read=60.0)
_MAX_PAUSE = 30.0
_TRIES = 5  # of a file that a server that answers does not take; each continues or repeats the one before
_MAX_SILENCE = 600.0  # seconds; a server that does not answer for so long has forgotten the lease
_BLOCK = 1024 * 1024
_NAME = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9_.-]{0,99}")  # no folder, and not hidden
_LOCAL_SUFFIXES = (".localhost", ".local", ".lan", ".internal", ".home.arpa")
_STATUS_NOT_FOUND, _STATUS_PARTIAL = 404, 206
_REFUSALS = (MissingRunnerToken, InvalidRunnerToken, InvalidState, InvalidRequest)  # of this runner as a whole


class _Cancelled(Exception):
    """The task is no longer wanted, or this process stops."""


def join_server(address: str, token: str, settings: Settings, *, engines: Sequence[str] | None = None) -> int:
    """Help the server at ``address`` until SIGTERM or SIGINT; the exit code.

    Raises InvalidRequest for an address or engines that cannot be used, MissingRunnerToken, InvalidRunnerToken when the
    token is not or no longer valid, and InvalidState when the server has another version.
    """
    if not token:
        raise MissingRunnerToken(
            "There is no runner token.", hint="Set ALPHAREEL_RUNNER_TOKEN to what alphareel runners create printed."
        )
    configure_service_logging(settings.log.level)
    hide_secret(token)
    hide_process()
    stopping = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopping.set())
    make_private_folder(settings.storage.data_dir)
    with _work_folder(settings.storage.data_dir / "runner") as folder:
        worker, models = settings.worker, settings.models
        preload = Preload("light", None, models.dir, models.priorities.get("light"), worker.threads_per_job)
        config = SpareConfig(
            folder=folder,
            count=worker.jobs if worker.spare_idle_seconds else 0,
            idle_seconds=worker.spare_idle_seconds or math.inf,
            max_bytes=worker.spare_max_bytes,
            confined=worker.confined,
            preload=preload,
        )
        spares = Spares(config)
        spares.start()
        try:
            with _open_server(_checked_address(address), token) as server:
                runner = _Runner(server, settings, folder, spares, _engines(settings, engines), stopping)
                return runner.run()
        finally:
            spares.stop()


class RunnerServer:
    """The server's routes for runners. Raises the errors of the server, Unavailable when it does not answer."""

    def __init__(self, http: httpx2.Client) -> None:
        self._http = http

    def call(self, path: str, body: Mapping[str, Any], **options: Any) -> dict[str, Any]:
        """POST; the JSON of the response."""
        with _translating():
            return _checked(self._http.post(f"v1/runners/{path}", json=body, **options))

    def download(self, path: str, target: Path, size: int) -> None:
        """GET the file, from where an earlier call stopped."""
        have = target.stat().st_size if target.exists() else 0
        headers = {"Range": f"bytes={have}-"} if have else {}
        with _translating(), self._http.stream("GET", f"v1/runners/{path}", headers=headers) as response:
            if response.is_error:
                response.read()
                _checked(response)
            mode = "ab" if response.status_code == _STATUS_PARTIAL else "wb"
            with target.open(mode) as file:
                for block in response.iter_bytes():
                    file.write(block)
        if target.stat().st_size != size:
            raise FetchFailed("An input arrived incomplete.")

    def show(self, path: str, preview: bytes) -> None:
        """PUT a preview."""
        with _translating():
            _checked(self._http.put(f"v1/runners/{path}", content=preview, headers={"Content-Type": "image/webp"}))

    def upload(self, path: str, source: Path, tick: "_Lease") -> str:
        """PUT the file; the SHA-256 that the server saw."""

        def blocks() -> Iterator[bytes]:
            with source.open("rb") as file:
                while data := file.read(_BLOCK):
                    tick.check()
                    yield data

        headers = {"Content-Length": str(source.stat().st_size), "Content-Type": "application/octet-stream"}
        with _translating():
            return str(_checked(self._http.put(f"v1/runners/{path}", content=blocks(), headers=headers))["sha256"])


@dataclass(frozen=True)
class _Runner:
    server: RunnerServer
    settings: Settings
    folder: Path
    children: Children
    engines: tuple[str, ...]
    stopping: threading.Event

    def run(self) -> int:
        """Run tasks in every slot until this process stops. Raises an error that refuses this runner as a whole."""
        slots = self.settings.worker.jobs
        get_logger(__name__).info("joining", slots=slots, engines=self.engines)
        failures: list[AlphareelError] = []

        def work() -> None:
            try:
                self._work()
            except AlphareelError as error:
                failures.append(error)
                self.stopping.set()
            except Exception as error:  # noqa: BLE001  # the other slots must stop as well
                get_logger(__name__).exception("runner broke")
                failures.append(InternalError(f"The runner failed: {type(error).__name__}."))
                self.stopping.set()

        threads = [threading.Thread(target=work, name=f"slot-{number}") for number in range(slots)]
        for thread in threads:
            thread.start()
        for thread in threads:
            while thread.is_alive():
                thread.join(0.5)  # so that signals are seen
        if failures:
            raise failures[0]
        with contextlib.suppress(AlphareelError):
            self.server.call("lease", {**self._lease_request(), "slots": 0})
        get_logger(__name__).info("runner stopped")
        return 0

    def _work(self) -> None:
        pause = 1.0
        while not self.stopping.is_set():
            try:
                answer = self.server.call("lease", self._lease_request(), headers={"Prefer": f"wait={_WAIT_SECONDS}"})
                pause = 1.0
            except (Unavailable, InternalError, FetchFailed) as error:
                get_logger(__name__).warning("server does not answer", error=str(error), pause=pause)
                self.stopping.wait(pause)
                pause = min(_MAX_PAUSE, 2 * pause)
                continue
            except _REFUSALS:
                raise
            except AlphareelError as error:
                get_logger(__name__).warning("no task", error=str(error), pause=pause)
                self.stopping.wait(pause)
                continue
            if answer["task"] is not None:
                self._run_task(answer["task"])

    def _lease_request(self) -> dict[str, Any]:
        return {"version": __version__, "slots": self.settings.worker.jobs, "engines": list(self.engines)}

    def _run_task(self, given: Mapping[str, Any]) -> None:
        log = get_logger(__name__)
        lease = _Lease(self.server, str(given["id"]), str(given["lease"]), given, self.stopping)
        log.info("task leased", task=lease.task_id)
        with lease.renewing():
            try:
                event = self._perform(given, lease)
                lease.end(event)
                log.info("task ended", task=lease.task_id, outcome=event["event"], code=event.get("code"))
            except _Cancelled:
                log.info("task given up", task=lease.task_id)
                if self.stopping.is_set():
                    with contextlib.suppress(AlphareelError):
                        lease.release()
                lease.raise_refusal()

    def _perform(self, given: Mapping[str, Any], lease: "_Lease") -> dict[str, Any]:
        """The last event of the task, after its files were returned. Raises _Cancelled."""
        try:
            with self.children.workspace(self.folder / f"{uuid.uuid4().hex}") as workspace:
                inputs = workspace.with_name(f"{workspace.name}.files")
                inputs.mkdir()
                try:
                    task = self._task(given, workspace, inputs)
                    if task.previews is not None:
                        task.previews.mkdir()
                    for file in given["inputs"]:
                        lease.fetch(file["name"], inputs / file["name"], int(file["bytes"]))
                    limits = ResourceLimits.of_jobs(self.settings.worker)
                    made = child_process.run(task, limits, tick=lease, children=self.children)
                    for output, result in zip(task.outputs, made.results, strict=True):
                        lease.upload(output.path, result.sha256)
                    return event_to_values(made)
                finally:
                    shutil.rmtree(inputs, ignore_errors=True)
        except AlphareelError as error:
            lease.check()
            return event_to_values(ErrorEvent.of(error))
        except (OSError, InvalidMessage, KeyError, TypeError, ValueError) as error:
            lease.check()
            get_logger(__name__).exception("task broke")
            return event_to_values(ErrorEvent.of(InternalError(f"The runner failed: {type(error).__name__}.")))

    def _task(self, given: Mapping[str, Any], workspace: Path, inputs: Path) -> RunTask:
        """The task with paths and settings of this machine. The server chooses no path and no module here."""
        task = run_task_from_values(given["request"])
        names = {str(file["name"]) for file in given["inputs"]}
        outputs = [str(output.path) for output in task.outputs]
        if any(_NAME.fullmatch(name) is None for name in (*names, *outputs)):
            raise InvalidRequest("The task names a file that cannot be used here.")
        task = with_inputs(task, {path: inputs / path for path in map(Path, names)})
        if any(path.parent != inputs for path in task_inputs(task)):
            raise InvalidRequest("The task names an input that it does not have.")
        worker = self.settings.worker
        return replace(
            task,
            outputs=tuple(replace(output, path=workspace / output.path) for output in task.outputs),
            models_dir=self.settings.models.dir,
            engines=task.engines,
            threads=worker.threads_per_job,
            previews=None if task.previews is None else workspace / "previews",
            matte=None,
            corrections=(),
            pipeline=worker.pipeline,
        )


class _Lease:
    """The lease of one task: renewed by a thread of its own, with the newest progress that it got as a tick."""

    def __init__(
        self,
        server: RunnerServer,
        task_id: str,
        lease: str,
        given: Mapping[str, Any],
        stopping: threading.Event,
    ) -> None:
        self.task_id = task_id
        self._server = server
        self._lease = lease
        self._renew_seconds = float(given["renew_seconds"])
        self._lease_seconds = float(given["lease_seconds"])
        self._stopping = stopping
        self._ended = threading.Event()
        self._is_lost = False
        self._refusal: AlphareelError | None = None
        self._progress: Progress | None = None

    def __call__(self, progress: Progress | None) -> None:
        """Note the progress. Raises _Cancelled."""
        self.check()
        if progress is not None:
            self._progress = progress

    def check(self) -> None:
        """Raises _Cancelled."""
        if self._is_lost or self._stopping.is_set():
            raise _Cancelled

    def raise_refusal(self) -> None:
        """Raise the error with which the server refused this runner as a whole, if it did."""
        if self._refusal is not None:
            raise self._refusal

    @contextmanager
    def renewing(self) -> Iterator[None]:
        thread = threading.Thread(target=self._renew, name=f"renew-{self.task_id[:8]}", daemon=True)
        thread.start()
        try:
            yield
        finally:
            self._ended.set()
            thread.join()

    def fetch(self, name: str, target: Path, size: int) -> None:
        self._retry(lambda: self._server.download(self._file(name), target, size))

    def upload(self, path: Path, sha256: str) -> None:
        """Raises FetchFailed when it arrives damaged each time."""

        def send() -> None:
            if self._server.upload(self._file(path.name), path, self) != sha256:
                raise FetchFailed("An output arrived damaged.")

        self._retry(send)

    def end(self, event: Mapping[str, Any]) -> None:
        try:
            self._retry(lambda: self._server.call(f"{self._path}/complete", {"lease": self._lease, "event": event}))
        except AlphareelError as error:  # the lease ends by itself, and the task runs elsewhere
            get_logger(__name__).warning("result was not taken", task=self.task_id, error=str(error))

    def release(self) -> None:
        self._server.call(f"{self._path}/release", {"lease": self._lease})

    def _file(self, name: str) -> str:
        return f"{self._path}/files/{quote(name)}?lease={quote(self._lease)}"

    @property
    def _path(self) -> str:
        return f"tasks/{quote(self.task_id)}"

    def _retry(self, call: Any) -> None:
        """While the server does not answer, as when it starts again, this waits as long as there may be a lease."""
        failures, pause = 0, 0.0
        while True:
            self.check()
            try:
                call()
            except AlphareelError as error:
                failures += not isinstance(error, Unavailable)
                if not error.retryable or failures == _TRIES:
                    raise
                pause = min(_TRIES, pause + 1.0)
                self._ended.wait(pause)
            else:
                return

    def _show_preview(self, path: str) -> None:
        """A preview that is not taken is one less to see."""
        with contextlib.suppress(AlphareelError, OSError):
            self._server.show(f"{self._path}/preview?lease={quote(self._lease)}", Path(path).read_bytes())

    def _renew(self) -> None:
        renewed_at, sent, shown = time.monotonic(), None, None
        while not self._ended.wait(_LOOK_SECONDS) and not self._is_lost:
            progress = self._progress
            preview = None if progress is None else progress.preview
            is_new = (progress is not None and sent is None) or preview != shown
            if not is_new and time.monotonic() - renewed_at < self._renew_seconds:
                continue
            if preview is not None and preview != shown:
                self._show_preview(preview)
            sent, shown = progress, preview
            body: dict[str, Any] = {"lease": self._lease}
            if progress is not None:
                share = min(1.0, max(0.0, progress.share))
                body |= {"share": share, "done": progress.done, "total": progress.total}
                body |= {"seconds": progress.seconds, "fps": progress.fps}
            try:
                self._is_lost = bool(self._server.call(f"{self._path}/progress", body)["cancel"])
                renewed_at = time.monotonic()
            except AlphareelError as error:
                if not error.retryable:
                    self._refusal, self._is_lost = error, True
                elif time.monotonic() - renewed_at > max(_MAX_SILENCE, self._lease_seconds):
                    self._is_lost = True


@contextmanager
def _open_server(address: str, token: str) -> Iterator[RunnerServer]:
    headers = {"X-Runner-Token": token, "User-Agent": f"alphareel-runner/{__version__}"}
    limits = httpx2.Limits(max_connections=None)
    with httpx2.Client(base_url=f"{address}/", headers=headers, timeout=_TIMEOUT, limits=limits) as http:
        yield RunnerServer(http)


@contextmanager
def _translating() -> Iterator[None]:
    try:
        yield
    except httpx2.HTTPError as error:
        raise Unavailable(f"The server does not answer: {error or type(error).__name__}.") from error


def _checked(response: httpx2.Response) -> dict[str, Any]:
    if response.is_success:
        with contextlib.suppress(ValueError):
            if isinstance(values := response.json(), dict):
                return values
        raise Unavailable("The server's response is not a JSON object.", hint="Check the address after --join.")
    with contextlib.suppress(ValueError, KeyError, TypeError, AttributeError):
        error = response.json()["error"]
        raise by_code(str(error["code"]), str(error["message"]), hint=str(error.get("hint", "")))
    if response.status_code == _STATUS_NOT_FOUND:
        raise InvalidState("There is no alphareel server at this address.", hint="Check the address after --join.")
    raise Unavailable(f"The server answers {response.status_code}.")


def _checked_address(address: str) -> str:
    """Without a slash at its end. Raises InvalidRequest: plain HTTP would show the token to every network between."""
    parts = urlsplit(address)
    host = parts.hostname or ""
    if parts.scheme not in ("http", "https") or not host or parts.query or parts.fragment:
        raise InvalidRequest("--join needs the base URL of a server.", hint="Write it as https://cut.example.com.")
    if parts.scheme == "http" and not _is_local(host):
        raise InvalidRequest(
            "--join needs https:// here: the token and the videos would cross the network in the clear.",
            hint="Use https://; plain HTTP is for localhost and private networks.",
        )
    return address.rstrip("/")


def _is_local(host: str) -> bool:
    try:
        return not ipaddress.ip_address(host).is_global
    except ValueError:
        return "." not in host or host.endswith(_LOCAL_SUFFIXES)


def _engines(settings: Settings, wanted: Sequence[str] | None) -> tuple[str, ...]:
    """Names of the engines to run. Raises InvalidRequest for one that cannot run here."""
    reasons = {
        status.info.name: status.reason for status in list_engines(settings.models.dir, settings.models.priorities)
    }
    for name in wanted or ():
        if name not in reasons:
            raise InvalidRequest(f"There is no engine {name[:60]!r}.", hint=f"There are {', '.join(reasons)}.")
        if (reason := reasons[name]) is not None:
            raise InvalidRequest(f"The engine {name} cannot run here: {reason}")
    found = tuple(name for name, reason in reasons.items() if reason is None and (wanted is None or name in wanted))
    if not found:
        raise InvalidRequest("No engine can run here.", hint="alphareel models lists what they need.")
    return found


@contextmanager
def _work_folder(parent: Path) -> Iterator[Path]:
    """A folder for this process, after those of dead ones were removed. Its name is the number of the process."""
    parent.mkdir(parents=True, exist_ok=True)
    for left in parent.iterdir():
        if left.name.isdecimal() and (int(left.name) == os.getpid() or not _lives(int(left.name))):
            shutil.rmtree(left, ignore_errors=True)
    folder = parent / str(os.getpid())
    folder.mkdir()
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _lives(number: int) -> bool:
    try:
        os.kill(number, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
