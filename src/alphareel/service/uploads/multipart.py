"""Multipart uploads: clients send the parts of a file straight to the bucket, and the service makes an upload of them.

Each part is an object of its own under ``parts/<id>/``, which is deleted when the upload is complete, aborted or
expired (docs/decisions/0046-multipart-uploads.md).
"""

from __future__ import annotations

import math
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import TYPE_CHECKING

from alphareel.domain.errors import (
    FieldProblem,
    FileTooLarge,
    InvalidRequest,
    InvalidState,
    MultipartUnavailable,
    NotFound,
    StorageFailed,
    TooManyUploads,
    UploadLocked,
)
from alphareel.service.files import blob_keys
from alphareel.service.ports import Blobs, Clock, StoredPart
from alphareel.service.principal import Principal
from alphareel.service.settings import MIB, LimitSettings, MultipartSettings
from alphareel.service.uploads.models import Upload
from alphareel.service.uploads.service import UploadService, UploadSession, no_space, plain_name
from alphareel.telemetry.logging import get_logger

if TYPE_CHECKING:
    from alphareel.db.multipart_uploads import MultipartStore

MAX_PARTS = 1000
MIN_PART_BYTES = 16 * MIB
COMPLETION_LEASE = timedelta(minutes=20)
"""After it, a completion whose server died can be repeated."""
LATE_PARTS = timedelta(hours=1)
"""How long a part that was begun before the expiry may still arrive."""
MAX_BEGUN = 10  # times the unfinished ones: URLs of those that ended are still valid
_BATCH = 100
_COMPLETING_SECONDS = 2.0  # after which to ask again for an upload that is being completed


class MultipartState(StrEnum):
    OPEN = "open"
    COMPLETING = "completing"
    COMPLETED = "completed"
    ABORTED = "aborted"


@dataclass(frozen=True)
class MultipartUpload:
    """A file that arrives in parts of ``part_bytes``, the last of which may be smaller."""

    id: str
    key_id: str
    filename: str
    #: Of the whole file, as declared; counted for the quota until it is completed or over.
    bytes: int
    part_bytes: int
    state: MultipartState
    created_at: datetime
    expires_at: datetime
    #: When a completion that began may be repeated.
    lease_until: datetime | None = None
    #: Of the upload that was made of it.
    upload_id: str | None = None

    @property
    def count(self) -> int:
        """Number of parts."""
        return math.ceil(self.bytes / self.part_bytes)

    def size_of(self, number: int) -> int:
        """Bytes of a part, which are counted from 1."""
        return min(self.part_bytes, self.bytes - (number - 1) * self.part_bytes)


@dataclass(frozen=True)
class PartTarget:
    """Where a part is sent with a PUT. The URL grants access."""

    number: int
    bytes: int
    url: str = field(repr=False)


@dataclass(frozen=True)
class PartReceipt:
    """The response of the bucket to a part."""

    number: int
    etag: str


@dataclass(frozen=True)
class MultipartService:
    store: MultipartStore
    uploads: UploadService
    blobs: Blobs
    clock: Clock
    settings: MultipartSettings
    limits: LimitSettings

    def create(
        self, principal: Principal, *, filename: str, size: int
    ) -> tuple[MultipartUpload, tuple[PartTarget, ...]]:
        """Reserve the bytes and sign a URL for each part.

        Raises MultipartUnavailable, FileTooLarge, TooManyUploads, StorageQuotaExceeded, StorageFull, StorageFailed.
        """
        if size > self.limits.max_upload_bytes:
            raise FileTooLarge(f"File too large: {size} bytes.", hint=f"The limit is {self.limits.max_upload_bytes}.")
        if not self.uploads.has_space(size):
            raise no_space()
        now = self.clock.now()
        multipart = MultipartUpload(
            id=str(uuid.uuid4()),
            key_id=principal.require_key().id,
            filename=plain_name(filename),
            bytes=size,
            part_bytes=max(MIN_PART_BYTES, math.ceil(size / MAX_PARTS / MIB) * MIB),
            state=MultipartState.OPEN,
            created_at=now,
            expires_at=now + timedelta(seconds=self.settings.seconds),
        )
        targets = self._sign(multipart)
        if not self.store.add(multipart, most=self.settings.max_per_key):
            raise TooManyUploads(
                f"This key has {self.settings.max_per_key} multipart uploads that are not complete, or has begun "
                f"{MAX_BEGUN * self.settings.max_per_key} within the time that their URLs are valid.",
                hint="Complete or abort one of them, or wait.",
                retry_after=60.0,
            )
        return multipart, targets

    def _sign(self, multipart: MultipartUpload) -> tuple[PartTarget, ...]:
        lifetime = multipart.expires_at - self.clock.now()
        keys = [blob_keys.part_key(multipart.id, number) for number in range(1, multipart.count + 1)]
        urls = self.blobs.sign_puts(keys, lifetime)
        if urls is None:
            raise MultipartUnavailable(
                "This server stores files on a disk, which takes no parts from clients.",
                hint="Send the file with POST /v1/uploads.",
            )
        return tuple(PartTarget(number, multipart.size_of(number), url) for number, url in enumerate(urls, start=1))

    def get(self, principal: Principal, multipart_id: str) -> tuple[MultipartUpload, tuple[PartTarget, ...]]:
        """An open multipart upload, with fresh URLs of the parts that did not arrive.

        Raises NotFound, InvalidState, UploadLocked while it is being completed.
        """
        multipart = self._find(principal, multipart_id)
        if multipart.state is not MultipartState.OPEN:
            raise _not_open(multipart)
        stored = self._stored_parts(multipart)
        missing = (number for number in range(1, multipart.count + 1) if not _fits(multipart, number, stored))
        missing_numbers = set(missing)
        return multipart, tuple(target for target in self._sign(multipart) if target.number in missing_numbers)

    def begin_completion(
        self, principal: Principal, multipart_id: str, receipts: Sequence[PartReceipt]
    ) -> Upload | UploadSession:
        """The file as it was received, to be inspected and stored; the upload if that was done before.

        The caller must call ``reopen`` when that fails. Raises NotFound; InvalidState for one that was aborted;
        UploadLocked while another request completes it; InvalidRequest when parts are missing or differ from what the
        client sent.
        """
        multipart = self._find(principal, multipart_id)
        if multipart.state is MultipartState.COMPLETED:
            return self._completed_upload(multipart)
        self.uploads.check_queue(principal)
        _check_receipts(multipart, receipts)
        if not self.store.claim(multipart.id, lease=COMPLETION_LEASE):
            raise _not_open(self._find(principal, multipart_id))
        try:
            self._check_arrived(multipart, receipts)
            return self._receive(principal, multipart)
        except BaseException:
            self.store.reopen(multipart.id)
            raise

    def reopen(self, multipart_id: str) -> None:
        """Allow a failed completion to be repeated."""
        self.store.reopen(multipart_id)

    def abort(self, principal: Principal, multipart_id: str) -> None:
        """Delete the parts; idempotent. Raises NotFound, InvalidState once it is completed, UploadLocked before."""
        multipart = self._find(principal, multipart_id)
        if multipart.state is not MultipartState.ABORTED and not self.store.abort(multipart.id):
            raise _not_open(self._find(principal, multipart_id))

    def _find(self, principal: Principal, multipart_id: str) -> MultipartUpload:
        multipart = self.store.find(multipart_id)
        if multipart is None or multipart.key_id != principal.key_id or multipart.expires_at <= self.clock.now():
            raise NotFound(
                "Multipart upload not found", hint="It has expired, or another key began it. Begin a new one."
            )
        return multipart

    def _completed_upload(self, multipart: MultipartUpload) -> Upload:
        upload = self.uploads.find(multipart.upload_id) if multipart.upload_id is not None else None
        if upload is None:
            raise NotFound("The upload was deleted.", hint="Upload the file again.")
        return upload

    def _stored_parts(self, multipart: MultipartUpload) -> Mapping[str, StoredPart]:
        return {part.key: part for part in self.blobs.parts(blob_keys.part_prefix(multipart.id))}

    def _check_arrived(self, multipart: MultipartUpload, receipts: Sequence[PartReceipt]) -> None:
        """Raises InvalidRequest with a detail for each part that is not what the client says it sent."""
        stored = self._stored_parts(multipart)
        problems = []
        for index, receipt in enumerate(sorted(receipts, key=lambda each: each.number)):
            part = stored.get(blob_keys.part_key(multipart.id, receipt.number))
            expected = multipart.size_of(receipt.number)
            if part is None:
                problems.append(FieldProblem(f"parts.{index}", f"part {receipt.number} did not arrive."))
            elif part.bytes != expected:
                message = f"part {receipt.number} has {part.bytes} bytes; it must have {expected}."
                problems.append(FieldProblem(f"parts.{index}", message))
            elif _plain_etag(part.etag) != _plain_etag(receipt.etag):
                problems.append(FieldProblem(f"parts.{index}.etag", f"part {receipt.number} has another etag."))
        if problems:
            raise InvalidRequest(
                f"{problems[0].field}: {problems[0].message}", hint="Send the part again.", details=problems
            )

    def _receive(self, principal: Principal, multipart: MultipartUpload) -> UploadSession:
        """Copy the parts, in order, into a file of this machine."""
        session = self.uploads.begin_reserved(
            principal, filename=multipart.filename, size=multipart.bytes, multipart_id=multipart.id
        )
        try:
            for piece in self._pieces(multipart):
                session.write(piece)
        except BaseException:
            session.abort()
            raise
        return session

    def _pieces(self, multipart: MultipartUpload) -> Iterator[bytes]:
        """The bytes of all parts in order. Raises StorageFailed for a part that was replaced by a shorter one."""
        for number in range(1, multipart.count + 1):
            left = multipart.size_of(number)
            for piece in self.blobs.read(blob_keys.part_key(multipart.id, number), 0, left):
                left -= len(piece)
                yield piece
            if left:
                raise StorageFailed("A part changed while it was read.", hint="Complete the upload again.")


@dataclass(frozen=True)
class MultipartSweep:
    """Ends multipart uploads that were not completed in time."""

    store: MultipartStore
    blobs: Blobs

    def sweep(self) -> None:
        """End those that expired, and those with more bytes than declared. Raises Unavailable, StorageFailed.

        Signed URLs outlive the end of an upload, so what arrives after it is deleted, too.
        """
        while self.store.expire(late=LATE_PARTS, limit=_BATCH) == _BATCH:
            pass
        after = ""
        while page := self.store.page(after=after, limit=_BATCH):
            for multipart in page:
                self._check(multipart)
            after = page[-1].id

    def _check(self, multipart: MultipartUpload) -> None:
        prefix = blob_keys.part_prefix(multipart.id)
        stored_bytes = sum(part.bytes for part in self.blobs.parts(prefix))
        if multipart.state in (MultipartState.ABORTED, MultipartState.COMPLETED):
            if stored_bytes:
                self.blobs.delete_prefix(prefix)
        elif stored_bytes > multipart.bytes and self.store.abort(multipart.id):
            get_logger(__name__).warning("multipart upload aborted: more bytes than declared", id=multipart.id)


def _check_receipts(multipart: MultipartUpload, receipts: Sequence[PartReceipt]) -> None:
    """Raises InvalidRequest unless each part is named once."""
    if sorted(receipt.number for receipt in receipts) != list(range(1, multipart.count + 1)):
        message = f"must name each of the {multipart.count} parts once, counted from 1."
        raise InvalidRequest(f"parts: {message}", details=[FieldProblem("parts", message)])


def _fits(multipart: MultipartUpload, number: int, stored: Mapping[str, StoredPart]) -> bool:
    part = stored.get(blob_keys.part_key(multipart.id, number))
    return part is not None and part.bytes == multipart.size_of(number)


def _plain_etag(etag: str) -> str:
    return etag.strip().removeprefix("W/").strip('"').lower()


def _not_open(multipart: MultipartUpload) -> InvalidState | UploadLocked:
    if multipart.state is MultipartState.COMPLETING:
        return UploadLocked(
            "The multipart upload is being completed.",
            hint="Repeat the request after Retry-After seconds.",
            retry_after=_COMPLETING_SECONDS,
        )
    message_and_hint = {
        MultipartState.COMPLETED: ("The multipart upload is complete.", "Use its upload, or delete that."),
    }.get(multipart.state, ("The multipart upload was aborted.", "Begin a new one."))
    return InvalidState(message_and_hint[0], hint=message_and_hint[1])
