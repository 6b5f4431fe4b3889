"""Starts the template process and asks it for child processes. Linux only: elsewhere forking is not safe."""

import array
import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Mapping
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeout
from typing import IO, Any

from alphareel.service.worker.template_main import MESSAGE_BYTES

_IS_POSSIBLE = sys.platform == "linux"
_FORK_SECONDS = 20.0  # the template may still import
_TEMPLATE_GONE = -signal.SIGKILL  # what the kernel does to its children


_Answer = Future[tuple[int, Future[int]]]  # PID and exit code


class TemplateGone(Exception):
    """There is no template process, or it does not respond: start a new interpreter instead."""


class ForkedChild:
    """A child process of the template, with the part of the interface of ``subprocess.Popen`` that is used here."""

    def __init__(
        self, pid: int, exit_code: "Future[int]", template: "TemplateProcess", pipes: tuple[int, int, int]
    ) -> None:
        stdin, stdout, stderr = pipes
        self.pid = pid
        self.stdin: IO[bytes] = os.fdopen(stdin, "wb")
        self.stdout: IO[bytes] = os.fdopen(stdout, "rb", buffering=0)
        self.stderr: IO[bytes] = os.fdopen(stderr, "rb", buffering=0)
        self._template = template
        self._exit_code = exit_code

    def poll(self) -> int | None:
        return self._exit_code.result() if self._exit_code.done() else None

    def wait(self, timeout: float | None = None) -> int:
        """The exit code, negative for a signal. Raises subprocess.TimeoutExpired."""
        try:
            return self._exit_code.result(timeout)
        except FutureTimeout:
            raise subprocess.TimeoutExpired("child", timeout or 0) from None

    def kill(self) -> None:
        """Kill it and its process group. Nobody else has its PID before ``close``."""
        if not self._exit_code.done():
            for kill in (os.kill, os.killpg):  # it has no group before it has called setsid
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    kill(self.pid, signal.SIGKILL)

    def close(self) -> None:
        """Kill it, wait for its end and forget it."""
        self.kill()
        for pipe in (self.stdin, self.stdout, self.stderr):
            with contextlib.suppress(OSError):
                pipe.close()
        self.wait()
        self._template.forget(self.pid)


class TemplateProcess:
    """One connection to a template process, which this process starts unless it was given one.

    ``connection``: a socket whose other end the template of another process serves. Thread-safe. ``start`` and ``fork``
    raise TemplateGone.
    """

    def __init__(self, environment: Mapping[str, str], *, connection: socket.socket | None = None) -> None:
        self._environment = environment
        self._given = connection
        self._socket: socket.socket | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._reader: threading.Thread | None = None
        self._exit_codes: dict[int, Future[int]] = {}
        self._answers: list[_Answer] = []
        self._lock = threading.RLock()
        self._sending = threading.Lock()

    @property
    def is_alive(self) -> bool:
        return self._socket is not None

    @property
    def pid(self) -> int | None:
        """Of a template that this process started."""
        return None if self._process is None else self._process.pid

    def start(self) -> None:
        """Start it, or use the given connection; nothing if it runs. Always call this from one thread that stays."""
        if self._socket is None and self._reader is not None:
            self._reader.join()  # it clears what belongs to the template before
        with self._lock:
            if self._socket is not None:
                return
            if not _IS_POSSIBLE:
                raise TemplateGone
            connection, self._given = self._given, None
            self._socket = connection or self._spawn()
            self._reader = threading.Thread(target=self._read, args=(self._socket,), name="template", daemon=True)
            self._reader.start()

    def connect(self) -> socket.socket:
        """A socket that another process of ours can use as its ``connection``."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            self._send({"do": "connect"}, [theirs.fileno()])
        return ours

    def fork(self) -> ForkedChild:
        """A new child process, which waits for its setup."""
        pipes = _open_pipes()
        theirs = [pipes[0][0], pipes[1][1], pipes[2][1]]
        ours = [pipes[0][1], pipes[1][0], pipes[2][0]]
        try:
            answer = self._ask(theirs)
            try:
                pid, exit_code = answer.result(_FORK_SECONDS)
            except FutureTimeout:
                if answer.cancel():
                    raise TemplateGone from None
                pid, exit_code = answer.result()  # it came just now
        except TemplateGone:
            for descriptor in ours:
                os.close(descriptor)
            raise
        finally:
            for descriptor in theirs:
                os.close(descriptor)
        return ForkedChild(pid, exit_code, self, (ours[0], ours[1], ours[2]))

    def _ask(self, descriptors: list[int]) -> _Answer:
        """Request a child. A request that cannot be sent leaves no pending answer: answers are matched by order."""
        answer: _Answer = Future()
        with self._sending:  # answers come in the order of requests
            with self._lock:
                if self._socket is None:
                    raise TemplateGone
                self._answers.append(answer)
            try:
                self._send({"do": "fork"}, descriptors)
            except TemplateGone:
                with self._lock, contextlib.suppress(ValueError):
                    self._answers.remove(answer)
                raise
        return answer

    def forget(self, pid: int) -> None:
        with self._lock:
            self._exit_codes.pop(pid, None)
        with contextlib.suppress(TemplateGone):
            self._send({"do": "reap", "pid": pid})

    def stop(self) -> None:
        """End the template, unless it belongs to another process, and with it all children of this one."""
        with self._lock:
            control, self._socket = self._socket, None
        if control is not None:
            with contextlib.suppress(OSError):
                control.shutdown(socket.SHUT_RDWR)  # ends the thread that reads, which ends the rest

    def _spawn(self) -> socket.socket:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-m", "alphareel.service.worker.template_main", str(os.getpid())],
                stdin=theirs.fileno(),
                stdout=subprocess.DEVNULL,
                env=dict(self._environment),
            )
        return ours

    def _send(self, message: dict[str, Any], descriptors: list[int] | None = None) -> None:
        control = self._socket
        if control is None:
            raise TemplateGone
        ancillary = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", descriptors))] if descriptors else []
        try:
            control.sendmsg([json.dumps(message).encode()], ancillary)
        except OSError as error:
            raise TemplateGone from error

    def _read(self, control: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := control.recv(MESSAGE_BYTES):
                self._handle(json.loads(data))
        self._note_end(control)

    def _handle(self, message: dict[str, Any]) -> None:
        if "ended" in message:
            with self._lock:
                exit_code = self._exit_codes.get(message["ended"])
            if exit_code is None:  # nobody waited for it any more when it was forked
                self.forget(message["ended"])
            else:
                exit_code.set_result(message["code"])
            return
        with self._lock:
            answer = self._answers.pop(0)
            is_wanted = answer.set_running_or_notify_cancel()
            new_exit_code: Future[int] = Future()
            if is_wanted and "forked" in message:
                self._exit_codes[message["forked"]] = new_exit_code
        if is_wanted and "forked" in message:
            answer.set_result((message["forked"], new_exit_code))
        elif is_wanted:
            answer.set_exception(TemplateGone(message["failed"]))

    def _note_end(self, control: socket.socket) -> None:
        """The template is gone, and the kernel killed its children, or is about to."""
        with self._lock:
            if self._socket is control:
                self._socket = None
            answers, self._answers = self._answers, []
            exit_codes, self._exit_codes = self._exit_codes, {}
            process, self._process = self._process, None
        control.close()
        for answer in answers:
            if answer.set_running_or_notify_cancel():
                answer.set_exception(TemplateGone())
        for exit_code in exit_codes.values():
            if not exit_code.done():
                exit_code.set_result(_TEMPLATE_GONE)
        if process is not None:
            process.kill()
            process.wait()


def _open_pipes() -> list[tuple[int, int]]:
    """For standard input, output and error. Raises OSError, and leaves none open then."""
    pipes: list[tuple[int, int]] = []
    try:
        for _ in range(3):
            pipes.append(os.pipe())  # noqa: PERF401  # those that were opened must be known
    except OSError:
        for descriptor in (end for pipe in pipes for end in pipe):
            os.close(descriptor)
        raise
    return pipes
