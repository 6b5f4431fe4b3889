"""PostgreSQL, Redis and an S3 server as processes of their own, for tests and the chaos program.

Programs are searched on the PATH, in the folders of ALPHAREEL_TEST_SERVERS and where Debian puts them.
"""

import contextlib
import json
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from alphareel.testing.service import wait_for

_DEBIAN = ("/usr/local/bin", "/usr/sbin", *(f"/usr/lib/postgresql/{version}/bin" for version in range(18, 13, -1)))


class MissingServer(Exception):
    """A program is not installed; the message names it."""


def find_server(name: str) -> str:
    """The path of a server's program. Raises MissingServer."""
    folders = [os.environ.get("ALPHAREEL_TEST_SERVERS", ""), os.environ.get("PATH", ""), *_DEBIAN]
    found = shutil.which(name, path=os.pathsep.join(folders))
    if found is None:
        raise MissingServer(f"{name} is not installed")
    return found


def free_port() -> int:
    """A free TCP port of 127.0.0.1."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def answers(port: int) -> bool:
    """Whether a server listens on this port of 127.0.0.1."""
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
        return True
    return False


@dataclass(frozen=True)
class PostgresServer:
    """A PostgreSQL server on ``port`` whose superuser ``alphareel`` has the password ``pg``."""

    port: int
    folder: Path
    program: str
    user: str | None

    def url(self, database: str = "alphareel") -> str:
        return f"postgresql://alphareel:pg@127.0.0.1:{self.port}/{database}"

    def start(self) -> None:
        options = (
            f"-p {self.port} -c listen_addresses=127.0.0.1 -c unix_socket_directories={self.folder} "
            "-c max_connections=200 -c fsync=off"
        )
        self._run(self.program, "-D", self.folder, "-w", "-l", self.folder / "log", "-o", options, "start")

    def stop(self) -> None:
        """As if it crashed: connections break, and it recovers at the next start."""
        self._run(self.program, "-D", self.folder, "-m", "immediate", "stop")

    def initialize(self, initdb: str, password: Path) -> None:
        words = ("-U", "alphareel", "-A", "scram-sha-256", f"--pwfile={password}", "-N", "--locale=C", "-E", "UTF8")
        self._run(initdb, "-D", self.folder, *words)

    def _run(self, *command: object) -> None:
        subprocess.run(
            list(map(str, command)), user=self.user, cwd="/", stdout=subprocess.DEVNULL, timeout=60, check=True
        )


@contextlib.contextmanager
def postgres_server(folder: Path) -> Iterator[PostgresServer]:
    """A new server with an empty database ``alphareel``. Raises MissingServer."""
    initdb, pg_ctl = find_server("initdb"), find_server("pg_ctl")
    user = "postgres" if os.getuid() == 0 else None  # it refuses to run as root
    data = folder / "postgres"
    data.mkdir(mode=0o700, parents=True)
    if user is not None:
        shutil.chown(data, user)
        for parent in (folder, *folder.parents[:4]):
            if parent.owner() == "root" and parent != Path("/"):
                parent.chmod(parent.stat().st_mode | 0o011)
    password = folder / "password"
    password.write_text("pg")
    password.chmod(0o644)
    server = PostgresServer(free_port(), data, pg_ctl, user)
    server.initialize(initdb, password)
    server.start()
    try:
        import psycopg  # noqa: PLC0415  # an extra

        with psycopg.connect(server.url("postgres"), autocommit=True) as connection:
            connection.execute("CREATE DATABASE alphareel")
        yield server
    finally:
        with contextlib.suppress(subprocess.CalledProcessError):
            server.stop()


@contextlib.contextmanager
def server_process(command: Sequence[str], port: int, log: Path) -> Iterator["subprocess.Popen[bytes]"]:
    """A server that listens on ``port`` while the context is open. Raises TimeoutError with its log."""
    with log.open("wb") as output:
        process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT, cwd=log.parent)
    try:
        wait_for(lambda: answers(port) or process.poll() is not None)
        if process.poll() is not None:
            raise RuntimeError(f"{command[0]} ended: {log.read_text()[-2000:]}")
        yield process
    finally:
        process.kill()
        process.wait()


@contextlib.contextmanager
def redis_server(folder: Path, *, port: int, words: Sequence[str] = ()) -> Iterator["subprocess.Popen[bytes]"]:
    """A Redis without a file on this port of 127.0.0.1, with these options. Raises MissingServer."""
    command = [find_server("redis-server"), "--save", "", "--appendonly", "no", *words]
    with server_process([*command, "--port", str(port), "--bind", "127.0.0.1"], port, folder / "redis.log") as process:
        yield process


@contextlib.contextmanager
def seaweed_server(folder: Path, words: Sequence[str], *, bucket: str) -> Iterator[int]:
    """``weed WORDS`` with an S3 endpoint on the port that is returned, and a bucket for the key ``id``, ``secret``.

    Raises MissingServer.
    """
    weed = find_server("weed")
    data = folder / "weed"
    data.mkdir(parents=True)
    identity = {
        "name": "tests",
        "credentials": [{"accessKey": "id", "secretKey": "secret"}],
        "actions": [f"{action}:{bucket}" for action in ("Read", "Write", "List")],
    }
    (folder / "s3.json").write_text(json.dumps({"identities": [identity]}))
    names = ("master", "volume", "filer", "s3")
    ports = {name: free_port() for name in names}
    grpc = {name: free_port() for name in names}
    places = [f"-dir={data}", f"-s3.config={folder}/s3.json", "-ip=127.0.0.1"]
    numbers = [f"-{name}.port={ports[name]}" for name in names] + [f"-{name}.port.grpc={grpc[name]}" for name in names]
    with server_process([weed, *words, *places, *numbers], ports["s3"], folder / "weed.log"):
        shell = [weed, "shell", "-master", f"127.0.0.1:{ports['master']}.{grpc['master']}"]
        order = f"s3.bucket.create -name {bucket}\n"

        def made() -> bool:
            said = subprocess.run(shell, input=order, capture_output=True, text=True, timeout=60, check=False).stdout
            if "error" not in said.lower():
                return True
            time.sleep(1)
            return False

        wait_for(made, seconds=60)
        yield ports["s3"]
