"""Uploads: received to a temporary file, identified by content in a child process, then made durable and recorded."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import shutil
import threading
import uuid
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, replace
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
from alphareel.service.uploads.models import MediaInfo, Upload
from alphareel.service.uploads.probe_queue import ProbeQueue, Uploader

if TYPE_CHECKING:
    from alphareel.db.idempotency import IdempotencyStore
    from alphareel.db.storage_usage import StorageUsage
    from alphareel.db.uploads import UploadStore

_NEUTRAL_TYPES = ("", "application/octet-stream", "binary/octet-stream", "application/x-www-form-urlencoded")
_MEDIA_TYPES = ("video/", "image/", "application/mp4", "application/x-matroska", "application/vnd.rn-realmedia")
_LONGEST_NAME = 255
LONGEST_WRITE = timedelta(hours=1)
"""A blob that is expected and not recorded after so long is taken for one whose writer died."""


Identify = Callable[[Path], MediaInfo]
"""Raises InvalidFileType or BadVideo; the file may be hostile, so whoever implements it does so at arm's length."""


@dataclass(frozen=True)
class UploadRules:
    """``min_free_bytes``: what uploads leave free on every disk that they are written to."""

    incoming: Path
    max_bytes: int
    min_free_bytes: int = 0


class UploadService:
    """The desk where files are handed in."""

    def __init__(
        self,
        store: UploadStore,
        blobs: Blobs,
        *,
        storage: StorageUsage,
        deletion: DeletionService,
        idempotency: IdempotencyStore,
        inspect_media: Identify,
        rules: UploadRules,
        clock: Clock,
        probes: ProbeQueue | None = None,
    ) -> None:
        self._store = store
        self._storage = storage
        self._deletion = deletion
        self._idempotency = idempotency
        self._blobs = blobs
        self._identify = inspect_media
        self._rules = rules
        self._clock = clock
        self._probes = probes or ProbeQueue()

    def check_queue(self, principal: Principal) -> None:
        """Raises TooManyUploads, QueueFull where the upload could not be inspected soon."""
        self._probes.check(_uploader(principal))

    def begin(self, principal: Principal, *, filename: str, declared_type: str | None) -> UploadSession:
        """Start to receive a file. Raises InvalidFileType when the declared type is neither video nor image.

        Raises StorageQuotaExceeded, StorageFull when there is no room for anything.
        """
        declared = (declared_type or "").partition(";")[0].strip().lower()
        if declared not in _NEUTRAL_TYPES and not declared.startswith(_MEDIA_TYPES):
            raise InvalidFileType(
                f"Invalid file type {declared[:60]!r}.", hint="Send a video (mp4, mov, webm, avi) or an image."
            )
        room = self.remaining_bytes(principal.key_id, 1)
        return UploadSession(self, _uploader(principal), filename=plain_name(filename), rules=self._rules, room=room)

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

    def find_copy(self, receiving: UploadSession) -> Upload | None:
        """A new upload of a file that is kept already; None where it is not."""
        return self._store.add_copy(self._describe(receiving))

    def probe(self, receiving: UploadSession) -> Future[MediaInfo]:
        """What the received file is, as soon as its turn has come. Raises TooManyUploads, QueueFull."""
        named = receiving.filename or "The file"
        return self._probes.submit(receiving.uploader, lambda: self._examine(receiving.path, named=named))

    def keep(self, receiving: UploadSession, identity: MediaInfo) -> Upload:
        """Make the received file durable and record it."""
        return self._keep_new(self._describe(receiving), identity, receiving.path)

    def _describe(self, receiving: UploadSession) -> Upload:
        return Upload(
            id=str(uuid.uuid4()),
            key_id=receiving.uploader.key_id,
            filename=receiving.filename,
            content_type="",
            kind="",
            size=receiving.size,
            sha256=receiving.sha256,
            blob="",
            created_at=self._clock.now(),
        )

    def _keep_new(self, upload: Upload, identity: MediaInfo, path: Path) -> Upload:
        identified = replace(
            upload,
            filename=upload.filename or f"upload.{identity.extension}",
            content_type=identity.content_type,
            kind=identity.kind,
            seconds=identity.seconds,
            width=identity.width,
            height=identity.height,
            rate=identity.rate,
            blob=blob_keys.upload_key(upload.id, identity.extension),
        )
        self._store.expect_blob(identified.blob)
        self._blobs.put_file(identified.blob, path)
        try:
            recorded = self._store.add_upload(identified)
        except AlphareelError:
            self._blobs.delete(identified.blob)
            raise
        if recorded.blob != identified.blob:  # the same file came twice at once
            self._blobs.delete(identified.blob)
        return recorded

    def _examine(self, path: Path, *, named: str) -> MediaInfo:
        """What the file is; errors speak of it by the name that its sender knows."""
        try:
            return self._identify(path)
        except AlphareelError as error:
            error.message = error.message.replace(path.name, named)
            raise

    def check_quota(self, principal: Principal, size: int) -> None:
        """Raises StorageQuotaExceeded, StorageFull when ``size`` bytes do not fit."""
        self.remaining_bytes(principal.key_id, size)

    def remaining_bytes(self, key_id: str | None, size: int) -> int | None:
        """Bytes that this key may add, None for any number. Raises StorageQuotaExceeded, StorageFull."""
        if not self.has_space(size):
            raise no_space()
        return self._storage.room(key_id, size)

    def has_space(self, size: int = 0) -> bool:
        """Whether so many bytes leave enough free. Raises StorageFailed."""
        least = self._rules.min_free_bytes
        if not least:
            return True
        stored = self._blobs.free()
        return min(_free(self._rules.incoming), _free_of(stored)) - size >= least


class UploadWriter(Protocol):
    """Receives one upload; leaves nothing behind unless ``finish`` returned."""

    def write(self, data: bytes) -> None:
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
    """One upload in flight: bytes go to a temporary file that is gone unless ``finish`` returned."""

    def __init__(
        self, desk: UploadService, uploader: Uploader, *, filename: str, rules: UploadRules, room: int | None
    ) -> None:
        self.uploader = uploader
        self.filename = filename
        self.size = 0
        self.path = rules.incoming / uuid.uuid4().hex
        self._desk = desk
        self._max_bytes = rules.max_bytes
        self._room = room
        self._hash = hashlib.sha256()
        self._copy: Upload | None = None
        self._probe: Future[MediaInfo] | None = None
        self._lock = threading.Lock()
        try:
            rules.incoming.mkdir(parents=True, exist_ok=True)
            self._file = self.path.open("xb")
        except OSError as error:
            raise _disk_failed(error) from error

    @property
    def sha256(self) -> str:
        return self._hash.hexdigest()

    def write(self, data: bytes) -> None:
        if self.size + len(data) > self._max_bytes:
            raise FileTooLarge(
                f"File too large: more than {self._max_bytes} bytes.",
                hint="Cut or compress the video, or send its URL.",
            )
        if self._room is not None and self.size + len(data) > self._room:
            self._room = self._desk.remaining_bytes(
                self.uploader.key_id, self.size + len(data)
            )  # it may be another one by now
        try:
            self._file.write(data)
        except OSError as error:
            raise _disk_failed(error) from error
        self._hash.update(data)
        self.size += len(data)

    def start_probe(self) -> Future[MediaInfo] | None:
        try:
            self._file.close()
        except OSError as error:
            raise _disk_failed(error) from error
        if self.size == 0:
            raise InvalidFileType("Invalid file type: the file is empty.", hint="Send a video or an image.")
        self._copy = self._desk.find_copy(self)
        if self._copy is None:
            self._probe = self._desk.probe(self)
        return self._probe

    def finish(self) -> Upload:
        try:
            if self._copy is None and self._probe is None:
                self.start_probe()
            if self._copy is not None:
                return self._copy
            assert self._probe is not None
            return self._desk.keep(self, self._probe.result())
        except OSError as error:
            raise _disk_failed(error) from error
        finally:
            self.abort()

    def abort(self) -> None:
        if self._probe is not None:
            self._probe.cancel()  # gives its place in the queue back
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

    def write(self, data: bytes) -> None:
        self._session.write(data)

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


def plain_name(filename: str) -> str:
    """A file name to show and to save as: no folders, no control characters, of bounded length; may be empty."""
    name = PurePath(filename.replace("\\", "/")).name
    shown = "".join(c for c in name if c.isprintable()).strip()
    return "" if shown in (".", "..") else shown[-_LONGEST_NAME:]


def no_space() -> StorageFull:
    """For whoever would write more than the disk takes."""
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
        raise _disk_failed(error) from error


def _free_of(stored: int | None) -> float:
    return float("inf") if stored is None else stored


def _disk_failed(error: OSError) -> StorageFailed | StorageFull:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return no_space()
    return StorageFailed(
        f"The upload could not be stored: {error.strerror or error}.", hint="Free space on the server's disk."
    )


def _uploader(principal: Principal) -> Uploader:
    return Uploader(principal.key_id, principal.address)
