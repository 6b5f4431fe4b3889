"""Blobs in a bucket of an object store, through obstore: a put is whole or not there, and the store answers for it.

Credentials, region and endpoint come from the variables that every tool for the store reads (``AWS_ACCESS_KEY_ID``,
``AWS_ENDPOINT_URL``, ``GOOGLE_APPLICATION_CREDENTIALS``, ``AZURE_STORAGE_ACCOUNT_KEY``...), or from the machine.
"""

import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import obstore
from obstore.exceptions import BaseError, NotFoundError
from obstore.store import ObjectStore, from_url

from alphareel.domain.errors import InvalidRequest, StorageFailed
from alphareel.storage._keys import no_blob, parts_of

if TYPE_CHECKING:  # these exist for type checkers only
    from obstore import GetOptions
    from obstore.store import ClientConfig, RetryConfig

_PIECE = 8 * 1024 * 1024  # bytes asked for at once: our client may be slow, a request to the store may not
_HELD = 64 * 1024 * 1024  # bytes that all readers together hold; with many of them each asks for less at once
_LEAST = 256 * 1024
_PART = 8 * 1024 * 1024  # bytes of a part of a large upload
_WRITERS = 4  # parts on their way at once, all of them in memory
_BATCH = 1000  # keys listed and deleted at once


def open_blobs(url: str) -> "BucketBlobs":
    """The store of a URL such as ``s3://bucket/prefix``. Raises InvalidRequest for one that cannot be meant."""
    client: ClientConfig = {
        "allow_http": True,  # where the endpoint that was given says so
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
    """One object a blob, under the key that it has here."""

    def __init__(self, store: ObjectStore) -> None:
        self._store = store
        self._readers = _Readers()

    def put_file(self, key: str, path: Path) -> None:
        with translate_errors():
            obstore.put(self._store, _checked(key), path, chunk_size=_PART, max_concurrency=_WRITERS)

    @contextmanager
    def local(self, key: str) -> Iterator[Path]:
        """A copy in the folder for temporary files (``TMPDIR``)."""
        with tempfile.TemporaryDirectory(prefix="alphareel-") as folder:
            copy = Path(folder, "blob").with_suffix(Path(key).suffix)
            with translate_errors(), copy.open("wb") as file:
                for piece in self.read(key, 0, self.size(key)):
                    file.write(piece)
            yield copy

    def size(self, key: str) -> int:
        with translate_errors(missing=key):
            return obstore.head(self._store, _checked(key))["size"]

    def read(self, key: str, start: int, length: int) -> Iterator[bytes]:
        """In pieces of one object: should it be replaced meanwhile, StorageFailed is raised, never a mixture."""
        with translate_errors(missing=key):
            about = obstore.head(self._store, _checked(key))
            end = min(start + length, about["size"])
            with self._readers.one_more():
                while start < end:
                    stop = min(start + self._readers.piece, end)
                    options: GetOptions = {"range": (start, stop), "if_match": about["e_tag"]}
                    yield bytes(obstore.get(self._store, key, options=options).bytes())
                    start = stop

    def delete(self, key: str) -> None:
        with translate_errors(), suppress(NotFoundError):
            obstore.delete(self._store, _checked(key))

    def delete_prefix(self, prefix: str) -> None:
        if not prefix.endswith("/"):
            raise ValueError(f"{prefix!r} must end in a slash")
        _checked(prefix[:-1])
        with translate_errors():
            for found in obstore.list(self._store, prefix, chunk_size=_BATCH):
                obstore.delete(self._store, [blob["path"] for blob in found])

    def sweep(self) -> None:
        """Nothing lies around: uploads that broke off are the bucket's to expire (a lifecycle rule)."""

    def older(self, than: datetime) -> Iterator[str]:
        with translate_errors():
            for found in obstore.list(self._store, chunk_size=_BATCH):
                yield from (blob["path"] for blob in found if blob["last_modified"] < than)

    def free(self) -> int | None:
        return None

    def is_ready(self) -> bool:
        try:
            next(iter(obstore.list(self._store, chunk_size=1)), None)
        except (BaseError, OSError):
            return False
        return True


class _Readers:
    """How many read at the moment, each of which holds a piece in memory, however slow its client is."""

    def __init__(self) -> None:
        self._count = 0
        self._lock = threading.Lock()

    @contextmanager
    def one_more(self) -> Iterator[None]:
        with self._lock:
            self._count += 1
        try:
            yield
        finally:
            with self._lock:
                self._count -= 1

    @property
    def piece(self) -> int:
        return min(_PIECE, max(_LEAST, _HELD // max(1, self._count)))


def _checked(key: str) -> str:
    parts_of(key)
    return key


@contextmanager
def translate_errors(*, missing: str | None = None) -> Iterator[None]:
    """Our errors for the store's and the disk's; an object that is not there is the missing blob named."""
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
