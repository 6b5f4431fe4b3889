"""The few calls to a running service that the command makes: its base URL and key come from the environment.

The whole API in Python is the package alphareel-client, which the command does not require.
"""

import hashlib
import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2

from alphareel.domain import errors
from alphareel.media.atomic_file import AtomicFile, refuse_existing

_BASE_URL, _API_KEY = "ALPHAREEL_BASE_URL", "ALPHAREEL_API_KEY"
_DEFAULT_BASE_URL = "http://127.0.0.1:8080"
_PAUSE = 1.0  # seconds between two polls
_TIMEOUT = httpx2.Timeout(60.0, read=180.0)


class ServiceClient:
    """Calls with one key. Use it as a context."""

    def __init__(self, http: httpx2.Client) -> None:
        self._http = http

    def call(self, method: str, path: str, body: Mapping[str, Any] | None = None, **options: Any) -> dict[str, Any]:
        """The JSON of the response. Raises the service's error, Unavailable when it does not answer."""
        with _translating():
            response = self._http.request(method, path, json=body, **options)
        return _checked(response)

    def upload(self, path: Path) -> str:
        """The address of an uploaded file."""
        with path.open("rb") as file:
            return str(self.call("POST", "/v1/uploads", files={"file": (path.name, file)})["video_url"])

    def wait(self, path: str, on_progress: Callable[[float], None] = lambda _: None) -> dict[str, Any]:
        """Poll until what is at ``path`` is completed; ``on_progress`` gets percent. Raises its error if it failed."""
        while True:
            resource = self.call("GET", path)
            on_progress(float(resource["progress"]))
            if resource["status"] == "completed":
                return resource
            if resource["status"] == "failed":
                raise errors.by_code(str(resource["error_code"]), str(resource["error"]))
            time.sleep(_PAUSE)

    def download(self, url: str, target: Path, *, sha256: str, overwrite: bool) -> None:
        """Download a file, which gets its name once its hash is right. Raises FetchFailed, TargetExists."""
        if not overwrite:
            refuse_existing(target)
        part, digest = AtomicFile(target, overwrite=overwrite), hashlib.sha256()
        try:
            with _translating(), self._http.stream("GET", url) as response, part.path.open("wb") as file:
                response.raise_for_status()
                for block in response.iter_bytes():
                    file.write(block)
                    digest.update(block)
            if digest.hexdigest() != sha256:
                raise errors.FetchFailed(f"{target.name} arrived damaged.", hint="Run the command again.")
            part.publish()
        finally:
            part.discard()


@contextmanager
def open_service() -> Iterator[ServiceClient]:
    """A client of the service in the environment. Raises InvalidRequest without a key."""
    key = os.environ.get(_API_KEY, "").strip()
    if not key:
        raise errors.InvalidRequest(f"{_API_KEY} is not set.", hint="Set it to an API key of the service.")
    base_url = os.environ.get(_BASE_URL, "").strip() or _DEFAULT_BASE_URL
    with httpx2.Client(base_url=base_url, headers={"X-Api-Key": key}, timeout=_TIMEOUT) as http:
        yield ServiceClient(http)


def _checked(response: httpx2.Response) -> dict[str, Any]:
    try:
        answer = response.json()
        if response.is_success:
            return dict(answer)
        error = answer["error"]
        code, message = str(error["code"]), str(error["message"])
    except (ValueError, KeyError, TypeError):
        raise errors.Unavailable(f"{response.url} is not an alphareel service.", hint=f"Check {_BASE_URL}.") from None
    raise errors.by_code(code, message)


@contextmanager
def _translating() -> Iterator[None]:
    try:
        yield
    except httpx2.HTTPError as error:
        raise errors.Unavailable(f"The service does not answer: {error}", hint=f"Check {_BASE_URL}.") from error
