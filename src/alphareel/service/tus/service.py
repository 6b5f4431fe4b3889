"""Resumable uploads: parts are stored as blobs, so any API process can take the next one, and a killed one loses none.

The last part is recorded together with the upload. So the offset equals the length only once the file is an upload, and
sending the last part again repairs a failed attempt.
"""

from __future__ import annotations

import contextlib
import threading
import time
import uuid
from concurrent.futures import Future
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from alphareel.domain.errors import (
    AlphareelError,
    BadVideo,
    ChecksumMismatch,
    FileTooLarge,
    InvalidFileType,
    InvalidRequest,
    NotFound,
    OffsetMismatch,
    QueueFull,
    StorageFailed,
    TooManyUploads,
    by_code,
)
from alphareel.service.files import blob_keys
from alphareel.service.jobs.deletion import DeletionService
from alphareel.service.ports import Blobs, Clock
from alphareel.service.principal import Principal
from alphareel.service.settings import LimitSettings, TusSettings
from alphareel.service.tus.models import TusPart, TusUpload
from alphareel.service.tus.protocol import Checksum, parse_metadata
from alphareel.service.uploads.models import Upload
from alphareel.service.uploads.service import (
    UploadService,
    UploadSession,
    check_declared_type,
    disk_failed,
    plain_name,
)
from alphareel.telemetry.logging import get_logger

if TYPE_CHECKING:
    from alphareel.db.tus import TusStore
    from alphareel.db.uploads import UploadStore

_COPY_BYTES = 1024 * 1024
_CHECKED_BYTES = 64 * 1024 * 1024  # between two checks at the free space
_MAX_PARTS_IN_MIND = 1000  # of a large file: its parts grow, so that there are never many more than these


class TusService:
    def __init__(
        self,
        store: TusStore,
        uploads: UploadService,
        upload_store: UploadStore,
        blobs: Blobs,
        deletion: DeletionService,
        *,
        settings: TusSettings,
        limits: LimitSettings,
        incoming: Path,
        clock: Clock,
    ) -> None:
        self._store = store
        self._uploads = uploads
        self._upload_store = upload_store
        self._blobs = blobs
        self._deletion = deletion
        self._settings = settings
        self._limits = limits
        self._incoming = incoming
        self._clock = clock

    @property
    def lock_seconds(self) -> float:
        """How long a request that appends keeps its lock without renewing it."""
        return self._settings.lock_seconds

    def create(self, principal: Principal, *, length: int, metadata: str) -> TusUpload:
        """Raises FileTooLarge, InvalidFileType, TooManyUploads, StorageQuotaExceeded, StorageFull, InvalidRequest."""
        if length > self._limits.max_upload_bytes:
            raise FileTooLarge(
                f"File too large: {length} bytes.", hint=f"The limit is {self._limits.max_upload_bytes} bytes."
            )
        if length == 0:
            raise InvalidFileType("Invalid file type: the file is empty.", hint="Send a video or an image.")
        pairs = parse_metadata(metadata)
        declared = check_declared_type(pairs.get("filetype") or pairs.get("type"))
        self._uploads.check_quota(principal, length)
        now = self._clock.now()
        tus = TusUpload(
            id=str(uuid.uuid4()),
            key_id=principal.require_key().id,
            filename=plain_name(pairs.get("filename") or pairs.get("name") or ""),
            content_type=declared[:100],
            metadata=metadata,
            length=length,
            created_at=now,
            expires_at=now + timedelta(seconds=self._settings.expire_seconds),
        )
        self._store.create(tus, most=self._settings.uploads_per_key)
        return tus

    def find(self, principal: Principal, tus_id: str) -> TusUpload | None:
        """The upload as it is now; None if there is none, or another key made it."""
        tus = self._store.find(tus_id)
        if tus is None or tus.key_id != principal.key_id:
            return None
        if tus.upload_id is None:
            return tus
        result = self._upload_store.upload(tus.upload_id)
        return None if result is None else replace(tus, result=result)

    def get(self, principal: Principal, tus_id: str) -> TusUpload:
        """``find``, for an upload that must exist. Raises NotFound."""
        tus = self.find(principal, tus_id)
        if tus is None:
            raise not_found()
        return tus

    def append(
        self, principal: Principal, tus_id: str, *, offset: int, size: int | None, checksum: Checksum | None
    ) -> TusWriter | None:
        """Lock the upload for a body of ``size`` bytes (None: unknown) that begins at ``offset``.

        None for a finished upload, whose last request is repeated. Raises NotFound, OffsetMismatch, UploadLocked,
        FileTooLarge; for a file that was refused, the error that said why.
        """
        tus = self.get(principal, tus_id)
        if tus.error_code is not None:
            raise by_code(tus.error_code, tus.error or "The file was refused.")
        if tus.result is not None:
            if offset != tus.length:
                raise offset_mismatch(tus.length)
            return None
        if size is not None and offset + size > tus.length:
            raise self.too_long(tus)
        locked = self._store.lock(tus_id, offset=offset, seconds=self.lock_seconds)
        return TusWriter(self, locked, checksum, part_bytes=self._part_bytes(locked), folder=self._incoming)

    def terminate(self, principal: Principal, tus_id: str) -> None:
        """Delete it, with what was received and what it became. Raises NotFound, InvalidState while a job uses it."""
        tus = self.get(principal, tus_id)
        if tus.result is not None:
            self._uploads.delete(principal, tus.result.id)
        self._deletion.delete_blobs(self._store.remove(tus_id))

    def _part_bytes(self, tus: TusUpload) -> int:
        return max(self._settings.part_bytes, tus.length // _MAX_PARTS_IN_MIND)

    # What follows is for the writer.

    def too_long(self, tus: TusUpload) -> FileTooLarge:
        """The error for a body that is longer than the rest of the file."""
        return FileTooLarge(
            f"File too large: the body goes beyond the Upload-Length of {tus.length} bytes.",
            hint="Send as many bytes as were announced.",
        )

    def check_space(self) -> None:
        self._uploads.check_space(0)

    def renew(self, tus: TusUpload) -> None:
        self._store.renew(tus, seconds=self.lock_seconds)

    def release(self, tus: TusUpload) -> None:
        """Release the lock. Raises nothing: a lock that stays expires."""
        try:
            self._store.unlock(tus)
        except AlphareelError as error:
            get_logger(__name__).warning("lock of an upload stays until it expires", error=str(error))

    def store_part(self, tus: TusUpload, path: Path, size: int) -> TusUpload:
        """Store the next ``size`` bytes of the file durably; returns the upload with its new offset."""
        self._uploads.remaining_bytes(tus.key_id, size)
        blob = blob_keys.tus_part_key(tus.id, tus.offset, tus.generation)
        self._blobs.put_file(blob, path)
        expires_at = self._clock.now() + timedelta(seconds=self._settings.expire_seconds)
        return self._store.add_part(
            tus,
            TusPart(tus.offset, size, blob),
            expires_at=expires_at,
            seconds=self.lock_seconds,
            most=self._settings.max_parts,
        )

    def assemble(self, tus: TusUpload, rest: Path) -> UploadSession:
        """Put the parts and the ``rest`` together. Raises StorageFailed when they are not the whole file."""
        session = self._uploads.resume(tus)
        try:
            for part in self._store.parts(tus.id):
                if session.size != part.start:
                    break
                for data in self._blobs.read(part.blob, 0, part.size):
                    session.write(data)
            with rest.open("rb") as file:
                while data := file.read(_COPY_BYTES):
                    session.write(data)
        except OSError as error:
            session.abort()
            raise disk_failed(error) from error
        except NotFound as error:
            session.abort()
            raise InvalidRequest("A part of this upload is lost.", hint="Start the upload again.") from error
        except BaseException:
            session.abort()
            raise
        if session.size != tus.length:
            session.abort()
            raise StorageFailed(f"{session.size} of {tus.length} bytes are stored.", hint="Start the upload again.")
        return session

    def refuse(self, tus: TusUpload, error: AlphareelError) -> None:
        """Record that the file cannot be accepted, and delete its parts."""
        self._deletion.delete_blobs(self._store.refuse(tus, code=error.code, message=str(error)))

    def delete_parts(self, tus: TusUpload) -> None:
        """Delete what is scheduled for deletion since the upload is finished."""
        self._deletion.delete_blobs((blob_keys.part_prefix(tus.id),))


class TusWriter:
    """Appends the body of one request. Close it at the end, whatever happened."""

    def __init__(
        self, service: TusService, tus: TusUpload, checksum: Checksum | None, *, part_bytes: int, folder: Path
    ) -> None:
        self.tus = tus
        self._service = service
        self._checksum = checksum
        self._hash = checksum.start() if checksum is not None else None
        self._part_bytes = part_bytes
        self._folder = folder
        self._path = folder / uuid.uuid4().hex
        self._file: BinaryIO | None = None
        self._size = 0  # bytes in the file, which are not stored yet
        self._checked = 0  # of these, when the free space was looked at: a body with a checksum is stored as a whole
        self._session: UploadSession | None = None
        self._active = time.monotonic()
        self._lock = threading.Lock()

    @property
    def is_complete(self) -> bool:
        """Whether the whole file has arrived."""
        return self.tus.offset + self._size == self.tus.length

    def write(self, data: bytes) -> None:
        """Append. Raises FileTooLarge beyond the announced length, StorageFull, and what storing a part raises."""
        if self.tus.offset + self._size + len(data) > self.tus.length:
            raise self._service.too_long(self.tus)
        if self._size - self._checked >= _CHECKED_BYTES:
            self._service.check_space()
            self._checked = self._size
        try:
            if self._file is None:
                self._folder.mkdir(parents=True, exist_ok=True)
                self._file = self._path.open("wb")
            self._file.write(data)
        except OSError as error:
            raise disk_failed(error) from error
        if self._hash is not None:
            self._hash.update(data)
        self._size += len(data)
        self._active = time.monotonic()
        if self._size >= self._part_bytes and self._checksum is None and not self.is_complete:
            self._store_part()

    def end_body(self) -> None:
        """End the body. Stores all of it, unless the file is complete. Raises ChecksumMismatch."""
        if self._checksum is not None and self._hash is not None and self._hash.digest() != self._checksum.digest:
            raise ChecksumMismatch(
                f"The body does not have this {self._checksum.algorithm} checksum.", hint="Send it again."
            )
        if self._size and not self.is_complete:
            self._store_part()

    def cut_off(self) -> None:
        """The body ended too early. Stores what has arrived, unless it cannot be verified."""
        if self._size and self._checksum is None and not self.is_complete:
            self._store_part()

    def start_probe(self) -> Future[Any] | None:
        """Put the whole file together and start to inspect it; None when there is nothing to wait for.

        Raises QueueFull, StorageFailed, Unavailable.
        """
        self._active = float("inf")  # renewed from now on, although nothing arrives
        with self._recording_refusal():
            self._close_file()
            self._session = self._service.assemble(self.tus, self._path)
            try:
                return self._session.start_probe()
            except TooManyUploads as error:  # clients give up after 429, and the last part is all they have to repeat
                raise QueueFull(error.message, hint=error.hint, retry_after=error.retry_after) from error

    def finish(self) -> Upload:
        """Wait for the inspection and record the upload. Raises what ``UploadSession.finish`` does."""
        assert self._session is not None
        with self._recording_refusal():
            upload = self._session.finish()
        self._service.delete_parts(self.tus)
        self.tus = replace(self.tus, offset=self.tus.length, upload_id=upload.id, result=upload)
        return upload

    def renew(self) -> None:
        """Keep the lock if something has arrived since, or the file is being inspected. Raises nothing."""
        if time.monotonic() - self._active < self._service.lock_seconds:
            with contextlib.suppress(AlphareelError):
                self._service.renew(self.tus)

    def close(self) -> None:
        """Remove temporary files and release the lock. Raises nothing; safe to repeat."""
        with self._lock:
            if self._session is not None:
                self._session.abort()
            with contextlib.suppress(OSError, AlphareelError):
                self._close_file()
            self._path.unlink(missing_ok=True)
        if self.tus.result is None:
            self._service.release(self.tus)

    def _store_part(self) -> None:
        self._close_file()
        try:
            self.tus = self._service.store_part(self.tus, self._path, self._size)
        finally:
            self._path.unlink(missing_ok=True)
            self._file, self._size, self._checked = None, 0, 0

    def _close_file(self) -> None:
        if self._file is None:
            return
        try:
            self._file.close()
        except OSError as error:
            raise disk_failed(error) from error

    @contextlib.contextmanager
    def _recording_refusal(self) -> Any:
        try:
            yield
        except (BadVideo, InvalidRequest) as error:  # the same bytes would be refused again
            self._service.refuse(self.tus, error)
            raise


def not_found() -> NotFound:
    return NotFound("Upload not found", hint="It expired, or another key made it. Start the upload again.")


def offset_mismatch(offset: int) -> OffsetMismatch:
    return OffsetMismatch(f"The next byte of this upload is number {offset}.", hint="Ask with HEAD, and go on there.")
