"""``alphareel serve``, ``api``, ``worker`` and ``health``: the processes of an installation."""

import http.client
import os
import sys
import time
from pathlib import Path

from alphareel.cli.console import stdout
from alphareel.domain.errors import InvalidRequest, Unavailable
from alphareel.paths import default_data_dir

_HEARTBEAT_SECONDS = 15.0


def serve() -> None:
    """Run the service in the foreground: HTTP API and embedded workers. Settings: ALPHAREEL_* (docs/settings.md)."""
    from alphareel.server.api_process import serve as run_service
    from alphareel.server.settings import load_settings

    sys.exit(run_service(load_settings()))


def api() -> None:
    """Run the HTTP API alone; workers of the same database and storage process its jobs."""
    from alphareel.server.api_process import serve as run_service
    from alphareel.server.settings import load_settings

    os.environ["ALPHAREEL_WORKERS"] = "0"
    sys.exit(run_service(load_settings()))


def worker(
    *,
    queues: str | None = None,
    slots: int | None = None,
    join: str | None = None,
    token: str | None = None,
    engines: str | None = None,
) -> None:
    """Run a worker without the HTTP API: it takes jobs from the queues of the database.

    With --join it needs no database and no storage: it takes tasks from a server over HTTPS.

    Parameters
    ----------
    queues
        Comma-separated queues to take from: jobs, fetches. Default: ALPHAREEL_QUEUES.
    slots
        Jobs at a time. Default: ALPHAREEL_WORKERS.
    join
        Base URL of the server to help, as https://cut.example.com.
    token
        With --join: the token from `alphareel runners create`. Better in ALPHAREEL_RUNNER_TOKEN, which no list of
        processes shows.
    engines
        With --join: comma-separated engines to run. Default: all that can run here.
    """
    from alphareel.server.settings import load_settings
    from alphareel.server.worker_service import work

    variables = {"QUEUES": queues, "WORKERS": slots}
    os.environ |= {f"ALPHAREEL_{name}": str(value) for name, value in variables.items() if value is not None}
    settings = load_settings()
    if settings.worker.jobs < 1:
        raise InvalidRequest("A worker needs at least one slot.", hint="Set --slots or ALPHAREEL_WORKERS.")
    if join is not None:
        from alphareel.server.runner_process import join_server

        given_token = token or os.environ.get("ALPHAREEL_RUNNER_TOKEN", "")
        sys.exit(join_server(join, given_token, settings, engines=_names(engines)))
    if token is not None or engines is not None:
        raise InvalidRequest("--token and --engines belong to --join.", hint="Name the server: --join https://HOST.")
    sys.exit(work(settings))


def _names(text: str | None) -> tuple[str, ...] | None:
    return None if text is None else tuple(name.strip() for name in text.split(",") if name.strip())


def health(*, worker: bool = False, live: bool = False, seconds: float = 5.0) -> None:
    """Ask the service on this machine whether it is ready; exit code 6 if it is not. For HEALTHCHECK and probes.

    Parameters
    ----------
    worker
        Check the worker of this data folder instead, which serves no requests.
    live
        Only whether the API answers at all, not whether its database, storage and workers do.
    seconds
        How long to wait for the answer.
    """
    # Reads the environment itself: a container asks every few seconds, and the settings take a second to import.
    if worker:
        stdout.print(_worker_health(default_data_dir() / "heartbeat"))
    else:
        stdout.print(check_service("/livez" if live else "/readyz", seconds))


def _worker_health(heartbeat: Path) -> str:
    try:
        age = abs(time.time() - heartbeat.stat().st_mtime)
    except OSError:
        raise Unavailable(f"No worker runs with the data folder {heartbeat.parent}.") from None
    if age > _HEARTBEAT_SECONDS:
        raise Unavailable(f"The worker of the data folder {heartbeat.parent} sent no heartbeat for {age:.0f} s.")
    return "alive"


def check_service(path: str, seconds: float) -> str:
    """What the service on this machine answers at ``path``. Raises Unavailable."""
    host = os.environ.get("ALPHAREEL_HOST") or "127.0.0.1"
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104 - compared, not bound
    port = os.environ.get("ALPHAREEL_PORT") or "8080"
    if not port.isdecimal():
        raise InvalidRequest("ALPHAREEL_PORT must be a number.")
    connection = http.client.HTTPConnection(host, int(port), timeout=seconds)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        body = answer.read(4096).decode(errors="replace")
    except (OSError, http.client.HTTPException) as error:
        reason = error.strerror or error if isinstance(error, OSError) else error
        raise Unavailable(
            f"The service at {host} port {port} does not answer: {reason}.",
            hint="Start it with alphareel serve, or set ALPHAREEL_HOST and ALPHAREEL_PORT as it has them.",
        ) from None
    finally:
        connection.close()
    if answer.status != http.client.OK:
        raise Unavailable(f"The service at {host} port {port} is not ready: {body.strip()}")
    return body.strip()
