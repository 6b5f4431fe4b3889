"""The template process: it imports what jobs need, then forks a child process whenever it is asked to.

It never sees a job: it reads no file and no message but ``fork``, ``reap`` and ``connect``, so no child can find
anything of another job in what it inherits. It has one thread, as forking requires. It exits with its parent, and its
children exit with it. Started by ``template_process``, whose end of a socket is its standard input.
"""

import array
import contextlib
import ctypes
import gc
import json
import os
import selectors
import signal
import socket
import sys
from pathlib import Path
from typing import Any

from alphareel import plugins
from alphareel.service.worker import child_main
from alphareel.service.worker.parent_watch import bind_to_parent

MESSAGE_BYTES = 4096
TITLE = "alphareel.service.worker.child_main"  # what a child with a task is called in the list of processes
_FORK_DESCRIPTORS = 3


def main() -> None:
    """Serve the socket that is the standard input until it ends."""
    parent = int(sys.argv[1])
    bind_to_parent(parent)
    control = socket.socket(fileno=os.dup(0))
    _import_everything()
    gc.freeze()  # a collection in a child would copy every page
    Template(control).serve()
    os._exit(0)


class Template:
    """``first``: the connection whose end is the end of this process; others may come and go."""

    def __init__(self, first: socket.socket) -> None:
        self._first = first
        self._selector = selectors.DefaultSelector()
        self._selector.register(first, selectors.EVENT_READ)
        self._children: dict[int, socket.socket] = {}
        self._reported: set[int] = set()
        self._pid = os.getpid()

    def serve(self) -> None:
        wake, signaled = os.pipe()
        for descriptor in (wake, signaled):
            os.set_blocking(descriptor, False)
        signal.set_wakeup_fd(signaled)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, signal.SIG_IGN)  # its parent decides; a terminal signals all of its processes
        self._selector.register(wake, selectors.EVENT_READ)
        while True:
            for key, _ in self._selector.select():
                if key.fd == wake:
                    with contextlib.suppress(BlockingIOError):
                        os.read(wake, 4096)
                    self._report_ended()
                elif not self._receive(key.fileobj):  # type: ignore[arg-type]
                    return

    def _receive(self, connection: socket.socket) -> bool:
        """Handle a message. False when the first connection has ended."""
        try:
            data, ancillary, _, _ = connection.recvmsg(MESSAGE_BYTES, socket.CMSG_SPACE(4 * _FORK_DESCRIPTORS))
        except OSError:
            data, ancillary = b"", []
        descriptors = _descriptors(ancillary)
        if not data:
            return self._drop(connection)
        message: dict[str, Any] = json.loads(data)
        match message["do"]:
            case "fork" if len(descriptors) == _FORK_DESCRIPTORS:
                self._fork(connection, descriptors)
            case "reap":
                self._reap(message["pid"])
            case "connect":
                self._selector.register(socket.socket(fileno=descriptors.pop()), selectors.EVENT_READ)
        for descriptor in descriptors:
            os.close(descriptor)
        return True

    def _fork(self, connection: socket.socket, descriptors: list[int]) -> None:
        try:
            pid = os.fork()
        except OSError as error:
            _send(connection, {"failed": error.strerror})
            return
        if pid == 0:
            _become_child(descriptors, self._pid)
        self._children[pid] = connection
        _send(connection, {"forked": pid})

    def _report_ended(self) -> None:
        """Report children that exited. They stay zombies until they are reaped, so that their PIDs are not reused."""
        for pid, connection in list(self._children.items()):
            ended = os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            if ended is not None and pid not in self._reported:
                self._reported.add(pid)
                code = ended.si_status if ended.si_code == os.CLD_EXITED else -ended.si_status
                _send(connection, {"ended": pid, "code": code})

    def _reap(self, pid: int) -> None:
        if self._children.pop(pid, None) is not None:
            self._reported.discard(pid)
            os.waitpid(pid, 0)

    def _drop(self, connection: socket.socket) -> bool:
        """Kill the children of a connection whose process has ended."""
        self._selector.unregister(connection)
        connection.close()
        for pid, owner in list(self._children.items()):
            if owner is connection:
                os.kill(pid, signal.SIGKILL)
                with contextlib.suppress(ProcessLookupError):  # it has no group before it has called setsid
                    os.killpg(pid, signal.SIGKILL)
                self._reap(pid)
        return connection is not self._first


def _become_child(descriptors: list[int], parent: int) -> None:
    """Run as a child process, with these descriptors as its standard input, output and error. Does not return."""
    code = 1
    try:
        signal.set_wakeup_fd(-1)
        for number in (signal.SIGCHLD, signal.SIGTERM, signal.SIGINT):
            signal.signal(number, signal.SIG_DFL)
        os.setsid()
        bind_to_parent(parent)
        out = os.dup(descriptors[1])
        for target, descriptor in ((0, descriptors[0]), (1, descriptors[2]), (2, descriptors[2])):
            os.dup2(descriptor, target)
        if out != 3:
            os.dup2(out, 3)
        os.closerange(4, os.sysconf("SC_OPEN_MAX"))
        with os.fdopen(3, "w", encoding="utf-8") as events:
            code = child_main.serve(events, on_task=_set_title)
    finally:
        with contextlib.suppress(Exception):
            sys.stderr.flush()
        os._exit(code)


def _import_everything() -> None:
    """What a job of any format needs, apart from networks' runtimes, some of which start threads."""
    from alphareel.matting import tiers
    from alphareel.pipeline import chunks, run  # noqa: F401
    from alphareel.service.uploads import inspect  # noqa: F401

    loaders = plugins.discover("alphareel.media.formats", "alphareel.formats")
    with contextlib.suppress(ImportError):
        tiers.list_engines(None)
    for load in loaders.values():
        with contextlib.suppress(ImportError):
            load()


def _set_title() -> None:
    """Overwrite the arguments in memory, which the list of processes shows."""
    with contextlib.suppress(OSError, ValueError, IndexError):
        fields = Path("/proc/self/stat").read_text().rpartition(")")[2].split()
        start, end = int(fields[45]), int(fields[46])
        if 0 < len(TITLE) < end - start:
            ctypes.memset(start, 0, end - start)
            ctypes.memmove(start, TITLE.encode(), len(TITLE))


def _descriptors(ancillary: list[tuple[int, int, bytes]]) -> list[int]:
    descriptors = array.array("i")
    for level, kind, data in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            descriptors.frombytes(data[: len(data) - len(data) % descriptors.itemsize])
    return list(descriptors)


def _send(connection: socket.socket, message: dict[str, Any]) -> None:
    with contextlib.suppress(OSError):  # its end is noticed when it is read
        connection.send(json.dumps(message).encode())


if __name__ == "__main__":
    main()
