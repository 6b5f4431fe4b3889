"""Uploads: received to a temporary file, identified by content in a child process, then made durable and recorded."""

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

from alphareel.domain.errors import (
    AlphareelError,
    FieldProblem,
    FileTooLarge,
    InvalidFileType,
    InvalidRequest,
    NotFound,
    StorageFailed,
    StorageFull,
)
from alphareel.service.files import signed_urls
from alphareel.service.jobs.models import Upload
from alphareel.service.ports import Blobs, Clock, UploadStore
from alphareel.service.uploads.probe_queue import ProbeQueue, Uploader
from alphareel.service.uploads.quotas import StorageUsage
from alphareel.service.uploads.sources import SourceUrl

_NEUTRAL_TYPES = ("", "application/octet-stream", "binary/octet-stream", "application/x-www-form-urlencoded")
_MEDIA_TYPES = ("video/", "image/", "application/mp4", "application/x-matroska", "application/vnd.rn-realmedia")
_LONGEST_NAME = 255
LONGEST_WRITE = timedelta(hours=1)
"""A blob that is expected and not recorded after so long is taken for one whose writer died."""


@dataclass(frozen=True)
class MediaInfo:
    """What a file is by its bytes. ``kind``: video or image; ``extension`` without a dot.

    ``seconds``: the video's length, ``rate``: frames a second; None where its container does not tell.
    """

    kind: str
    content_type: str
    extension: str
    seconds: float | None = None
    width: int | None = None
    height: int | None = None
    rate: float | None = None


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
        shelves: StorageUsage,
        inspect_media: Identify,
        rules: UploadRules,
        clock: Clock,
        probes: ProbeQueue | None = None,
    ) -> None:
        self._store = store
        self._shelves = shelves
        self._blobs = blobs
        self._identify = inspect_media
        self._rules = rules
        self._clock = clock
        self._probes = probes or ProbeQueue()

    def check_queue(self, uploader: Uploader) -> None:
        """Raises TooManyUploads, QueueFull where the upload could not be examined soon."""
        self._probes.check(uploader)

    def begin(self, uploader: Uploader, *, filename: str, declared_type: str | None) -> "UploadSession":
        """Raises InvalidFileType at once when the declared type can be neither video nor image.

        Raises StorageQuotaExceeded, StorageFull when there is no room for anything.
        """
        declared = (declared_type or "").partition(";")[0].strip().lower()
        if declared not in _NEUTRAL_TYPES and not declared.startswith(_MEDIA_TYPES):
            raise InvalidFileType(
                f"Invalid file type {declared[:60]!r}.", hint="Send a video (mp4, mov, webm, avi) or an image."
            )
        room = self.check_quota_for(uploader.key_id, 1)
        return UploadSession(self, uploader, filename=plain_name(filename), rules=self._rules, room=room)

    def find_copy(self, receiving: "UploadSession") -> Upload | None:
        """A new upload of a file that is kept already; None where it is not."""
        return self._store.add_copy(self._describe(receiving))

    def probe(self, receiving: "UploadSession") -> "Future[MediaInfo]":
        """What the received file is, as soon as its turn has come. Raises TooManyUploads, QueueFull."""
        named = receiving.filename or "The file"
        return self._probes.submit(receiving.uploader, lambda: self._examine(receiving.path, named=named))

    def keep(self, receiving: "UploadSession", identity: MediaInfo) -> Upload:
        """Make the received file durable and record it."""
        return self._keep_new(self._describe(receiving), identity, receiving.path)

    def _describe(self, receiving: "UploadSession") -> Upload:
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
            blob=f"uploads/{upload.id}.{identity.extension}",
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

    def check_quota_for(self, key_id: str | None, size: int) -> int | None:
        """Bytes that this key may add, None for any number. Raises StorageQuotaExceeded, StorageFull."""
        if not self.has_space(size):
            raise no_space()
        return self._shelves.room(key_id, size)

    def has_space(self, size: int = 0) -> bool:
        """Whether so many bytes leave enough free. Raises StorageFailed."""
        least = self._rules.min_free_bytes
        if not least:
            return True
        stored = self._blobs.free()
        return min(_free(self._rules.incoming), _free_of(stored)) - size >= least

    def own(self, key_id: str | None, upload_id: str) -> str:
        """The id, if the upload is the key's. Raises NotFound."""
        found = self._store.upload(upload_id)
        if found is None or found.key_id != key_id:
            raise NotFound("Upload not found", hint="Check the id, and that the key is the one that uploaded it.")
        return found.id


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
            self._room = self._desk.check_quota_for(
                self.uploader.key_id, self.size + len(data)
            )  # it may be another one by now
        try:
            self._file.write(data)
        except OSError as error:
            raise _disk_failed(error) from error
        self._hash.update(data)
        self.size += len(data)

    def start_probe(self) -> "Future[MediaInfo] | None":
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


@dataclass(frozen=True)
class UploadResolver:
    """What URLs mean here: uploads of ours by their path, everything else an address on the network."""

    store: UploadStore
    link_secret: str

    def find(self, wanted: SourceUrl, *, key_id: str | None) -> Upload | None:
        """The upload that an address stands for; None for an address on the network.

        Whoever asks may use their own uploads and those made without a key. Raises InvalidRequest for a link of
        ours to anything else, and for a file of the wrong kind.
        """
        named = signed_urls.upload_id(wanted.url)
        found = self.store.upload(named) if named is not None else None
        if found is not None and found.key_id in (None, key_id):
            if found.kind != wanted.kind:
                raise _refused(wanted.field, f"the upload is of kind {found.kind}, but must be of kind {wanted.kind}.")
            return found
        if wanted.url.startswith(signed_urls.PREFIX) or signed_urls.is_signed_by_us(wanted.url, self.link_secret):
            raise _refused(wanted.field, "there is no such upload.", hint="Upload the file first, with the same key.")
        return None

    def blob_of(self, path: str) -> str:
        """The blob that the path of a link means: that of the upload it names. Raises NotFound."""
        named = signed_urls.upload_id(signed_urls.PREFIX + path)
        if named is None:
            return path
        found = self.store.upload(named)
        if found is None:
            raise NotFound("This file was removed.", hint="Upload it again.")
        return found.blob


def _refused(field: str, message: str, *, hint: str = "") -> InvalidRequest:
    return InvalidRequest(f"{field}: {message}", hint=hint, details=[FieldProblem(field, message)])


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
