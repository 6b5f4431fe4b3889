"""Blobs in a bucket of an object store, through obstore. The store makes puts atomic and durable.

Credentials, region and endpoint come from the store's usual environment variables (``AWS_ACCESS_KEY_ID``,
``AWS_ENDPOINT_URL``, ``GOOGLE_APPLICATION_CREDENTIALS``, ``AZURE_STORAGE_ACCOUNT_KEY``...), or from the machine.
"""

import tempfile
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import obstore
from obstore.exceptions import BaseError, NotFoundError
from obstore.store import ObjectStore, from_url

from alphareel.domain.errors import InvalidRequest, StorageFailed
from alphareel.service.ports import StoredPart
from alphareel.storage._keys import no_blob, parts_of

if TYPE_CHECKING:  # these exist for type checkers only
    from obstore import GetOptions
    from obstore.store import ClientConfig, RetryConfig

_MAX_READ = 8 * 1024 * 1024  # bytes of one GET: our client may read slowly, but a request to the store must not be slow
_MAX_BUFFERED = 64 * 1024 * 1024  # bytes that all readers together buffer; with many readers each GET is smaller
_MIN_READ = 256 * 1024
_PART_SIZE = 8 * 1024 * 1024  # bytes of a part of a multipart upload
_WRITERS = 4  # parts in flight at once, all of them in memory
_BATCH = 1000  # keys in one list or delete request


def open_blobs(url: str) -> "BucketBlobs":
    """Open the store of a URL such as ``s3://bucket/prefix``. Raises InvalidRequest for a malformed URL."""
    client: ClientConfig = {
        "allow_http": True,  # an endpoint in the settings may be plain HTTP
        "connect_timeout": timedelta(seconds=5),
        "timeout": timedelta(minutes=2),
    }
    retries: RetryConfig = {"max_retries": 3, "retry_timeout": timedelta(seconds=20)}
    try:
        return BucketBlobs(from_url(url, client_options=client, retry_config=retries))
    except (BaseError, ValueError) as error:
        raise InvalidRequest(
            f"{url!r} names no bucket: {_first_line(error)}", hint="Write s3://bucket/prefix."
        ) from None


class BucketBlobs:
    """Stores each blob as one object with the blob's key."""

    def __init__(self, store: ObjectStore) -> None:
        self._store = store
        self._buffers = _ReadBuffers()

    def put_file(self, key: str, path: Path) -> None:
        with _translate_errors():
            obstore.put(self._store, _checked(key), path, chunk_size=_PART_SIZE, max_concurrency=_WRITERS)

    @contextmanager
    def local(self, key: str) -> Iterator[Path]:
        """Download to the folder for temporary files (``TMPDIR``)."""
        with tempfile.TemporaryDirectory(prefix="alphareel-") as folder:
            copy = Path(folder, "blob").with_suffix(Path(key).suffix)
            with _translate_errors(), copy.open("wb") as file:
                for piece in self.read(key, 0, self.size(key)):
                    file.write(piece)
            yield copy

    def size(self, key: str) -> int:
        with _translate_errors(missing=key):
            return obstore.head(self._store, _checked(key))["size"]

    def read(self, key: str, start: int, length: int) -> Iterator[bytes]:
        """Raises StorageFailed if the object is replaced during the read."""
        with _translate_errors(missing=key):
            head = obstore.head(self._store, _checked(key))
            end = min(start + length, head["size"])
            with self._buffers.reader():
                while start < end:
                    stop = min(start + self._buffers.read_size, end)
                    options: GetOptions = {"range": (start, stop), "if_match": head["e_tag"]}
                    yield bytes(obstore.get(self._store, key, options=options).bytes())
                    start = stop

    def delete(self, key: str) -> None:
        with _translate_errors(), suppress(NotFoundError):
            obstore.delete(self._store, _checked(key))

    def delete_prefix(self, prefix: str) -> None:
        if not prefix.endswith("/"):
            raise ValueError(f"{prefix!r} must end in a slash")
        _checked(prefix[:-1])
        with _translate_errors():
            for page in obstore.list(self._store, prefix, chunk_size=_BATCH):
                obstore.delete(self._store, [blob["path"] for blob in page])

    def sweep(self) -> None:
        """Do nothing: a lifecycle rule of the bucket removes incomplete multipart uploads."""

    def older(self, than: datetime) -> Iterator[str]:
        with _translate_errors():
            for page in obstore.list(self._store, chunk_size=_BATCH):
                yield from (blob["path"] for blob in page if blob["last_modified"] < than)

    def free(self) -> int | None:
        return None

    def sign_puts(self, keys: Sequence[str], lifetime: timedelta) -> tuple[str, ...] | None:
        with _translate_errors():
            return tuple(obstore.sign(self._store, "PUT", [_checked(key) for key in keys], lifetime))  # type: ignore[call-overload]

    def parts(self, prefix: str) -> tuple[StoredPart, ...]:
        with _translate_errors():
            return tuple(
                StoredPart(blob["path"], blob["size"], blob["e_tag"] or "")
                for page in obstore.list(self._store, prefix, chunk_size=_BATCH)
                for blob in page
            )

    def is_ready(self) -> bool:
        try:
            next(iter(obstore.list(self._store, chunk_size=1)), None)
        except (BaseError, OSError):
            return False
        return True


class _ReadBuffers:
    """Divides the read buffers among the current readers, each of which keeps one in memory while its client reads."""

    def __init__(self) -> None:
        self._count = 0
        self._lock = threading.Lock()

    @contextmanager
    def reader(self) -> Iterator[None]:
        with self._lock:
            self._count += 1
        try:
            yield
        finally:
            with self._lock:
                self._count -= 1

    @property
    def read_size(self) -> int:
        return min(_MAX_READ, max(_MIN_READ, _MAX_BUFFERED // max(1, self._count)))


def _checked(key: str) -> str:
    parts_of(key)
    return key


@contextmanager
def _translate_errors(*, missing: str | None = None) -> Iterator[None]:
    """Raise StorageFailed for errors of the store or the disk; NotFound if the blob ``missing`` does not exist."""
    try:
        yield
    except (BaseError, OSError) as error:
        if missing is not None and isinstance(error, NotFoundError | FileNotFoundError):
            raise no_blob(missing) from None
        raise StorageFailed(
            f"The object store failed: {_first_line(error)}", hint="Check its address, its bucket and the credentials."
        ) from error


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0]
