"""Uploads: received into a temporary file, inspected in a child process, then stored and recorded."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import shutil
import threading
import uuid
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any, Protocol

from alphareel.domain.errors import (
    AlphareelError,
    FileTooLarge,
    InvalidFileType,
    NotFound,
    StorageFailed,
    StorageFull,
)
from alphareel.service.files import blob_keys
from alphareel.service.idempotency import Reservation, answer_to, fingerprint
from alphareel.service.jobs.deletion import DeletionService
from alphareel.service.ports import Blobs, Clock
from alphareel.service.principal import Principal
from alphareel.service.settings import LimitSettings, StorageSettings
from alphareel.service.tus.models import TusUpload
from alphareel.service.uploads.early_writeback import begin_writeback
from alphareel.service.uploads.models import MediaInfo, Upload
from alphareel.service.uploads.probe_queue import ProbeQueue, Uploader

if TYPE_CHECKING:
    from alphareel.db.idempotency import IdempotencyStore
    from alphareel.db.storage_quotas import StorageUsage
    from alphareel.db.uploads import UploadStore

_VAGUE_TYPES = {  # of any file
    *("application/octet-stream", "binary/octet-stream", "application/x-www-form-urlencoded", "*/*"),
    *("application/binary", "application/x-binary", "application/unknown", "application/x-unknown"),
    *("application/download", "application/x-download", "application/force-download"),
}
_CONTAINER_TYPES = {  # what systems declare for videos, by their suffix
    *("application/mp4", "application/x-matroska", "application/vnd.rn-realmedia", "application/x-troff-msvideo"),
    *("application/mxf", "application/ogg", "application/vnd.ms-asf"),
    *("audio/3gpp", "audio/3gpp2", "audio/mp4", "audio/ogg", "audio/webm", "audio/x-matroska"),
    *("text/vnd.trolltech.linguist", "model/vnd.mts"),  # .ts and .mts
}
_MEDIA_TYPES = ("video/", "image/")
_MAX_NAME_LENGTH = 255
_WRITEBACK_BYTES = 8 * 1024 * 1024  # written between two requests to the disk
MAX_WRITE_TIME = timedelta(hours=1)
"""A blob that is expected but not recorded within this time is deleted: its writer must have died."""


_helpers = ThreadPoolExecutor(max_workers=max(4, os.cpu_count() or 1), thread_name_prefix="upload")
"""Hash what was received while it is written and more arrives, and sync files while they are inspected.

An upload has at most one task in it.
"""

InspectMedia = Callable[[Path], MediaInfo]
"""Raises InvalidFileType or BadVideo. The file may be hostile, so this must use a child process."""


class UploadService:
    def __init__(
        self,
        store: UploadStore,
        blobs: Blobs,
        *,
        storage: StorageUsage,
        deletion: DeletionService,
        idempotency: IdempotencyStore,
        inspect_media: InspectMedia,
        settings: StorageSettings,
        limits: LimitSettings,
        clock: Clock,
        probes: ProbeQueue | None = None,
    ) -> None:
        self._store = store
        self._storage = storage
        self._deletion = deletion
        self._idempotency = idempotency
        self._blobs = blobs
        self._inspect_media = inspect_media
        self._settings = settings
        self._limits = limits
        self._clock = clock
        self._probes = probes or ProbeQueue()
        #: Whether files are kept on a disk, which is to write them while more arrives.
        self.stores_files = settings.url.startswith("file:")

    def check_queue(self, principal: Principal) -> None:
        """Raises TooManyUploads, QueueFull where the upload could not be inspected soon."""
        self._probes.check(_uploader(principal))

    def begin(self, principal: Principal, *, filename: str, declared_type: str | None) -> UploadSession:
        """Start to receive a file. Raises InvalidFileType when the declared type is neither video nor image.

        Raises StorageQuotaExceeded, StorageFull when there is no room for anything.
        """
        check_declared_type(declared_type)
        remaining = self.remaining_bytes(principal.key_id, 1)
        return UploadSession(
            self,
            _uploader(principal),
            filename=plain_name(filename),
            folder=self._settings.incoming,
            max_bytes=self._limits.max_upload_bytes,
            remaining=remaining,
        )

    def resume(self, tus: TusUpload) -> UploadSession:
        """Put together a file that arrived in parts, whose bytes are accounted for; ``finish`` finishes ``tus`` too.

        Raises StorageFull.
        """
        self.check_space(tus.length)
        return UploadSession(
            self,
            Uploader(tus.key_id),
            filename=tus.filename,
            folder=self._settings.incoming,
            max_bytes=self._limits.max_upload_bytes,
            remaining=None,
            tus=tus,
        )

    def begin_reserved(self, principal: Principal, *, filename: str, size: int, multipart_id: str) -> UploadSession:
        """Start to receive a file of ``size`` bytes, which a multipart upload has reserved. Raises StorageFull."""
        self.check_space(size)
        return UploadSession(
            self,
            _uploader(principal),
            filename=filename,
            folder=self._settings.incoming,
            max_bytes=self._limits.max_upload_bytes,
            remaining=None,
            multipart_id=multipart_id,
        )

    def find(self, upload_id: str) -> Upload | None:
        """The upload of any key; None if there is none."""
        return self._store.upload(upload_id)

    def begin_idempotent(
        self,
        principal: Principal,
        *,
        filename: str,
        declared_type: str | None,
        name: str,
        render: Callable[[Upload], str],
    ) -> IdempotentUpload:
        """``begin`` under an idempotency key: ``finish`` raises ReplayedResponse if this file came before.

        Raises IdempotencyInProgress.
        """
        reservation = self._idempotency.reserve(principal.require_key().id, name)
        try:
            session = self.begin(principal, filename=filename, declared_type=declared_type)
        except AlphareelError:
            self._idempotency.release(reservation)
            raise
        return IdempotentUpload(session, self._idempotency, reservation, render=render)

    def delete(self, principal: Principal, upload_id: str) -> None:
        """Raises InvalidState while an unfinished job uses it, NotFound."""
        upload = self._store.upload(upload_id)
        if upload is None or upload.key_id != principal.key_id:
            raise NotFound("Upload not found", hint="Check the id, and that the key is the one that uploaded it.")
        self._deletion.delete_upload(upload.id)

    def find_copy(self, session: UploadSession) -> Upload | None:
        """Record an upload of a file that is stored already; None when it is not."""
        return self._store.add_copy(self._describe(session), tus=session.tus, multipart_id=session.multipart_id)

    def probe(self, session: UploadSession) -> Future[MediaInfo]:
        """Queue the inspection of the received file. Raises TooManyUploads, QueueFull."""
        display_name = session.filename or "The file"
        return self._probes.submit(session.uploader, lambda: self._inspect(session.path, named=display_name))

    def store(self, session: UploadSession, info: MediaInfo) -> Upload:
        """Store the received file durably and record it."""
        return self._store_new(session, info)

    def _describe(self, session: UploadSession) -> Upload:
        return Upload(
            id=str(uuid.uuid4()),
            key_id=session.uploader.key_id,
            filename=session.filename,
            content_type="",
            kind="",
            size=session.size,
            sha256=session.sha256,
            blob="",
            created_at=self._clock.now(),
        )

    def _store_new(self, session: UploadSession, info: MediaInfo) -> Upload:
        upload = self._describe(session)
        identified = replace(
            upload,
            filename=upload.filename or f"upload.{info.extension}",
            content_type=info.content_type,
            kind=info.kind,
            seconds=info.seconds,
            width=info.width,
            height=info.height,
            rate=info.rate,
            blob=blob_keys.upload_key(upload.id, info.extension),
        )
        self._store.expect_blob(identified.blob)
        self._blobs.put_file(identified.blob, session.path)
        try:
            recorded = self._store.add_upload(identified, tus=session.tus, multipart_id=session.multipart_id)
        except AlphareelError:
            self._blobs.delete(identified.blob)
            raise
        if recorded.blob != identified.blob:  # the same file came twice at once
            self._blobs.delete(identified.blob)
        return recorded

    def _inspect(self, path: Path, *, named: str) -> MediaInfo:
        """Inspect the file; error messages use the name that the client knows."""
        try:
            return self._inspect_media(path)
        except AlphareelError as error:
            error.message = error.message.replace(path.name, named)
            raise

    def check_quota(self, principal: Principal, size: int) -> None:
        """Raises StorageQuotaExceeded, StorageFull when ``size`` bytes do not fit."""
        self.remaining_bytes(principal.key_id, size)

    def remaining_bytes(self, key_id: str | None, size: int) -> int | None:
        """Bytes that this key may add, None for any number. Raises StorageQuotaExceeded, StorageFull."""
        self.check_space(size)
        return self._storage.remaining(key_id, size)

    def check_space(self, size: int) -> None:
        """Raises StorageFull unless enough disk space remains after this many bytes."""
        if not self.has_space(size):
            raise no_space()

    def has_space(self, size: int = 0) -> bool:
        """Whether enough disk space remains after this many bytes. Raises StorageFailed."""
        min_free = self._settings.min_free_bytes
        if not min_free:
            return True
        stored = self._blobs.free()
        return min(_free(self._settings.incoming), _free_of(stored)) - size >= min_free


class UploadWriter(Protocol):
    """Receives one upload; leaves nothing behind unless ``finish`` returned."""

    def write(self, *pieces: bytes) -> None:
        """Append. Raises FileTooLarge, StorageQuotaExceeded, StorageFull past a limit, StorageFailed on a full disk."""

    def start_probe(self) -> Future[Any] | None:
        """Start to inspect the complete file. None when there is nothing to wait for before ``finish``.

        Raises InvalidFileType for an empty file, TooManyUploads, QueueFull.
        """

    def finish(self) -> Upload:
        """Wait for the inspection, store the file durably, record it.

        Raises InvalidFileType, BadVideo, FileTooLarge; Unavailable when the service could not inspect the file; and
        what ``start_probe`` raises.
        """

    def abort(self) -> None:
        """Discard it; safe after ``finish`` and safe to repeat."""


class UploadSession:
    """An upload in progress. Its temporary file is removed unless ``finish`` returns."""

    def __init__(
        self,
        service: UploadService,
        uploader: Uploader,
        *,
        filename: str,
        folder: Path,
        max_bytes: int,
        remaining: int | None,
        tus: TusUpload | None = None,
        multipart_id: str | None = None,
    ) -> None:
        self.tus = tus
        self.uploader = uploader
        self.multipart_id = multipart_id
        self.filename = filename
        self.size = 0
        self.path = folder / uuid.uuid4().hex
        self._service = service
        self._max_bytes = max_bytes
        self._remaining = remaining
        self._hash = hashlib.sha256()
        self._hashing: Future[None] | None = None
        self._syncing: Future[None] | None = None
        self._writeback_at = 0  # bytes that the disk was asked to write
        self._copy: Upload | None = None
        self._probe: Future[MediaInfo] | None = None
        self._lock = threading.Lock()
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._file = self.path.open("xb")
        except OSError as error:
            raise disk_failed(error) from error

    @property
    def sha256(self) -> str:
        self._hashed()
        return self._hash.hexdigest()

    def write(self, *pieces: bytes) -> None:
        size = self.size + sum(map(len, pieces))
        if size > self._max_bytes:
            raise FileTooLarge(
                f"File too large: more than {self._max_bytes} bytes.",
                hint="Cut or compress the video, or send its URL.",
            )
        if self._remaining is not None and size > self._remaining:
            self._remaining = self._service.remaining_bytes(
                self.uploader.key_id, size
            )  # the quota may have changed by now
        self._hashed()
        self._hashing = _helpers.submit(self._update_hash, pieces)
        try:
            for piece in pieces:
                self._file.write(piece)
            if self._service.stores_files and size - self._writeback_at >= _WRITEBACK_BYTES:
                begin_writeback(self._file.fileno(), self._writeback_at, size - self._writeback_at)
                self._writeback_at = size
        except OSError as error:
            raise disk_failed(error) from error
        self.size = size

    def _update_hash(self, pieces: tuple[bytes, ...]) -> None:
        for piece in pieces:
            self._hash.update(piece)

    def _hashed(self) -> None:
        """Wait until all that was written is hashed."""
        if self._hashing is not None:
            self._hashing.result()
            self._hashing = None

    def start_probe(self) -> Future[MediaInfo] | None:
        try:
            self._file.close()
        except OSError as error:
            raise disk_failed(error) from error
        if self.size == 0:
            raise InvalidFileType("Invalid file type: the file is empty.", hint="Send a video or an image.")
        self._copy = self._service.find_copy(self)
        if self._copy is None:
            self._probe = self._service.probe(self)
            if self._service.stores_files:
                self._syncing = _helpers.submit(_sync, self.path)
        return self._probe

    def finish(self) -> Upload:
        try:
            if self._copy is None and self._probe is None:
                self.start_probe()
            if self._copy is not None:
                return self._copy
            assert self._probe is not None
            info = self._probe.result()
            if self._syncing is not None:
                self._syncing.result()
            return self._service.store(self, info)
        except OSError as error:
            raise disk_failed(error) from error
        finally:
            self.abort()

    def abort(self) -> None:
        if self._probe is not None:
            self._probe.cancel()  # frees its slot in the queue
        with self._lock:
            with contextlib.suppress(OSError):  # closing writes what is buffered, and the disk may be full
                self._file.close()
            self.path.unlink(missing_ok=True)


class IdempotentUpload:
    """An upload under an idempotency key: sending the same file again replays the first response."""

    def __init__(
        self,
        session: UploadSession,
        store: IdempotencyStore,
        reservation: Reservation,
        *,
        render: Callable[[Upload], str],
    ) -> None:
        self._session = session
        self._store = store
        self._reservation = reservation
        self._render = render

    def write(self, *pieces: bytes) -> None:
        self._session.write(*pieces)

    def start_probe(self) -> Future[Any] | None:
        """None also when the key already has a response, because then there is nothing to inspect."""
        return self._session.start_probe() if self._reservation.answer is None else None

    def finish(self) -> Upload:
        """Raises ReplayedResponse, IdempotencyConflict, and what ``UploadSession.finish`` raises."""
        request_fingerprint = fingerprint("upload", f"{self._session.filename}\n{self._session.sha256}")
        if self._reservation.answer is not None:
            self._session.abort()
            raise answer_to(request_fingerprint, *self._reservation.answer)
        upload = self._session.finish()
        self._store.store(self._reservation, fingerprint=request_fingerprint, body=self._render(upload))
        return upload

    def abort(self) -> None:
        self._session.abort()
        if self._reservation.answer is None:
            self._store.release(self._reservation)


def check_declared_type(declared_type: str | None) -> str:
    """The type without parameters; empty if it has not the form of one.

    Raises InvalidFileType for a specific type that no video or image has.
    """
    declared = (declared_type or "").partition(";")[0].strip().lower()
    if "/" not in declared:  # such as "undefined", or the word "video"
        return ""
    if declared not in _VAGUE_TYPES | _CONTAINER_TYPES and not declared.startswith(_MEDIA_TYPES):
        raise InvalidFileType(
            f"Invalid file type {declared[:60]!r}.", hint="Send a video (mp4, mov, webm, avi) or an image."
        )
    return declared


def plain_name(filename: str) -> str:
    """The file name without folders and control characters, of bounded length; may be empty."""
    name = PurePath(filename.replace("\\", "/")).name
    printable = "".join(c for c in name if c.isprintable()).strip()
    return "" if printable in (".", "..") else printable[-_MAX_NAME_LENGTH:]


def no_space() -> StorageFull:
    return StorageFull(
        "The disk of this server is almost full.",
        hint="Delete jobs and uploads that are not needed any more, or ask the operator to free space.",
    )


def _free(folder: Path) -> float:
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    try:
        return shutil.disk_usage(folder).free
    except OSError as error:
        raise disk_failed(error) from error


def _free_of(stored: int | None) -> float:
    return float("inf") if stored is None else stored


def disk_failed(error: OSError) -> StorageFailed | StorageFull:
    """The error for a disk that could not be written."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return no_space()
    return StorageFailed(
        f"The upload could not be stored: {error.strerror or error}.", hint="Free space on the server's disk."
    )


def _sync(path: Path) -> None:
    with contextlib.suppress(FileNotFoundError):  # it was refused meanwhile
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _uploader(principal: Principal) -> Uploader:
    return Uploader(principal.key_id, principal.address)
