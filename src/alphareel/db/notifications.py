"""Notifies waiting threads of changes, in this and in other processes, when a transaction commits.

Sent by NOTIFY on PostgreSQL, and on SQLite by datagrams between the processes of one data folder. A notification may
get lost, so waiting threads also poll.
"""

import contextlib
import os
import socket
import threading
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from alphareel.telemetry.logging import get_logger

QUEUE = "queue"
"""The topic of new entries in the queue of jobs."""
JOB = "job "
"""How topics of transitions begin."""
PROGRESS = "progress "
"""How topics of progress begin."""

_PENDING = "alphareel_notifications"  # key in the ``info`` of a SQLite connection
_CHANNEL = "alphareel"
_MAX_BYTES = 512
_CHECK_SECONDS = 10.0  # between two checks that a LISTEN connection still lives
_RECONNECT_SECONDS = 2.0

Callback = Callable[[str], None]


def job_topic(job_id: str) -> str:
    return JOB + job_id


def progress_topic(job_id: str) -> str:
    return PROGRESS + job_id


def notify(c: sa.Connection, topic: str) -> None:
    """Send the topic when this transaction commits. The same topic is sent once."""
    if c.dialect.name == "postgresql":
        c.execute(sa.select(sa.func.pg_notify(_CHANNEL, topic)))
    else:
        c.info.setdefault(_PENDING, {})[topic] = None


def take_pending(c: sa.Connection) -> list[str]:
    """Topics that must be sent once this SQLite transaction has committed."""
    return list(c.info.pop(_PENDING, ()))


class Notifications:
    """Subscriptions of one process. Callbacks get every topic, in a thread of this class: they must be quick."""

    def __init__(self) -> None:
        self._callbacks: list[Callback] = []
        self._stopping = threading.Event()

    def subscribe(self, callback: Callback) -> None:
        self._callbacks.append(callback)

    def send(self, topic: str) -> None:
        """Send the topic to this process, and to others unless the database did."""
        self._dispatch(topic)

    def start(self) -> None:
        """Begin to receive what other processes send."""

    def stop(self) -> None:
        self._stopping.set()

    def _dispatch(self, topic: str) -> None:
        for callback in self._callbacks:
            try:
                callback(topic)
            except Exception:  # noqa: BLE001  # the others must be notified
                get_logger(__name__).exception("notification failed", topic=topic)


class LocalNotifications(Notifications):
    """Between processes that use one folder: each has a datagram socket in it."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self._folder = folder
        self._name = f"{os.getpid()}-{uuid.uuid4().hex[:8]}"
        self._receiver: socket.socket | None = None
        self._sender = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._sender.setblocking(False)
        self._listing = threading.Lock()  # threads that list through one descriptor share its position
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        # The address of a socket has about 100 bytes; through the descriptor of its folder any folder is reachable.
        self._descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)

    def send(self, topic: str) -> None:
        super().send(topic)
        data = topic.encode()
        try:
            with self._listing:
                names = os.listdir(self._descriptor)  # noqa: PTH208  # through the descriptor
        except OSError:  # such as no free descriptor; the others look by themselves
            return
        for name in names:
            if name == self._name:
                continue
            try:
                self._sender.sendto(data, self._address(name))
            except ConnectionRefusedError:  # its process is gone
                with contextlib.suppress(OSError):
                    os.unlink(name, dir_fd=self._descriptor)
            except OSError:
                continue  # it is busy, or has just ended

    def start(self) -> None:
        receiver = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        try:
            receiver.bind(self._address(self._name))
        except OSError as error:  # such as a folder that takes no sockets
            receiver.close()
            get_logger(__name__).warning("changes are found by polling only", error=str(error))
            return
        self._receiver = receiver
        threading.Thread(target=self._receive, args=(receiver,), name="notifications", daemon=True).start()

    def stop(self) -> None:
        super().stop()
        if self._receiver is not None:
            with contextlib.suppress(OSError):
                os.unlink(self._name, dir_fd=self._descriptor)
            with contextlib.suppress(OSError):
                self._receiver.shutdown(socket.SHUT_RD)  # wakes the thread
        self._sender.close()
        os.close(self._descriptor)

    def _receive(self, receiver: socket.socket) -> None:
        with receiver:
            while (data := receiver.recv(_MAX_BYTES)) and not self._stopping.is_set():
                self._dispatch(data.decode(errors="replace"))

    def _address(self, name: str) -> str:
        through = Path(f"/proc/self/fd/{self._descriptor}")  # Linux has it
        return str((through if through.exists() else self._folder) / name)


class PostgresNotifications(Notifications):
    """Uses LISTEN on a connection of its own, which is reopened whenever it breaks.

    ``connect`` opens a psycopg connection that times out when the server hangs.
    """

    def __init__(self, connect: Callable[[], Any]) -> None:
        super().__init__()
        self._connect = connect

    def send(self, topic: str) -> None:
        """Does nothing: the database has sent it to every process."""

    def start(self) -> None:
        threading.Thread(target=self._run, name="notifications", daemon=True).start()

    def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                with contextlib.closing(self._connect()) as connection:
                    self._listen(connection)
            except Exception as error:  # noqa: BLE001  # waiting threads also poll
                get_logger(__name__).debug("notifications are interrupted", error=str(error))
                self._stopping.wait(_RECONNECT_SECONDS)

    def _listen(self, connection: Any) -> None:
        connection.autocommit = True
        connection.execute(f"LISTEN {_CHANNEL}")
        self._dispatch(QUEUE)  # what came before was not heard
        checked_at = time.monotonic()
        while not self._stopping.is_set():
            for notification in connection.notifies(timeout=1.0):
                self._dispatch(notification.payload)
                if self._stopping.is_set():
                    return
            if time.monotonic() - checked_at > _CHECK_SECONDS:
                connection.execute("SELECT 1")
                checked_at = time.monotonic()
