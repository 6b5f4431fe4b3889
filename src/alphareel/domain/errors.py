"""All errors that alphareel raises. Each has a stable code, a sentence on what was wrong, and one on what to do.

The tree (code, retryable where marked *):

    AlphareelError
    ├── InvalidRequest            invalid_request        the request is invalid
    │   ├── InvalidFileType       invalid_file_type
    │   ├── FileTooLarge          file_too_large
    │   ├── MultipartUnavailable  multipart_unavailable  the storage takes no parts from clients
    │   └── TargetExists          target_exists          the file to write already exists
    ├── BadVideo                  invalid_video          the video cannot be decoded
    │   ├── ResolutionTooLarge    resolution_too_large
    │   └── DurationTooLong       duration_too_long
    ├── ModelUnavailable          model_unavailable      no engine here serves the tier
    ├── FormatUnavailable         format_unavailable     the format cannot be written here
    ├── WeightsInvalid            weights_invalid        a weights file does not match its hash
    ├── SubjectNotFound           subject_not_found
    ├── VerificationFailed      * verification_failed    the written file differs from what was encoded
    ├── Cancelled                 cancelled
    ├── Timeout                 * timeout                a job or progress deadline passed
    ├── OutOfMemory               out_of_memory
    ├── WorkerCrashed           * worker_crashed         the processing subprocess died
    ├── FetchRefused              url_refused            the address is not allowed
    ├── FetchFailed             * fetch_failed           the download failed
    ├── StorageFailed           * storage_failed
    ├── StorageQuotaExceeded      storage_quota_exceeded  the key's storage quota is used up
    ├── StorageFull             * storage_full           the service's storage is used up
    ├── NotFound                  not_found
    ├── InvalidState              invalid_state
    ├── OffsetMismatch            offset_mismatch        an upload does not continue there
    ├── ChecksumMismatch        * checksum_mismatch      the bytes were damaged on their way
    ├── UploadLocked            * upload_locked          another request appends to the upload
    ├── VersionUnsupported        version_unsupported    of the tus protocol
    ├── MediaTypeUnsupported      media_type_unsupported
    ├── JobNotCompleted           job_not_completed
    ├── MissingApiKey             missing_api_key
    ├── InvalidApiKey             invalid_api_key
    ├── MissingAdminToken         missing_admin_token
    ├── InvalidAdminToken         invalid_admin_token
    ├── MissingRunnerToken        missing_runner_token
    ├── InvalidRunnerToken        invalid_runner_token
    ├── MethodNotAllowed          method_not_allowed
    ├── InsufficientCredits       insufficient_credits
    ├── RateLimited             * rate_limited
    │   ├── TooManyJobs         * too_many_jobs          the key has reached its limit of queued jobs
    │   └── TooManyUploads      * too_many_uploads       the caller has reached its limit of queued uploads
    ├── IdempotencyConflict       idempotency_conflict
    ├── IdempotencyInProgress   * idempotency_in_progress
    ├── Unavailable             * unavailable            the service is starting or stopping
    │   ├── QueueFull           * queue_full             the service has reached its limit of queued jobs or uploads
    │   ├── DatabaseFull        * database_full          the disk of the database is full
    │   └── DatabaseReadOnly    * database_read_only     the database can only be read
    └── InternalError           * internal_error         a bug or an unexpected failure

``http/errors.py`` maps them to HTTP status codes.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar


@dataclass(frozen=True)
class FieldProblem:
    """An invalid field of a request. ``field``: its dotted path as the caller wrote it."""

    field: str
    message: str


class AlphareelError(Exception):
    """Base class of all errors. ``message``: what was wrong. ``hint``: what to do about it; may be empty."""

    code: ClassVar[str] = "internal_error"
    retryable: ClassVar[bool] = False

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        end = "." if self.hint and not self.message.endswith((".", "!", "?")) else ""
        return f"{self.message}{end} {self.hint}".rstrip()


class InvalidRequest(AlphareelError):
    """The request is invalid. ``details``: the invalid fields."""

    code = "invalid_request"

    def __init__(self, message: str, *, hint: str = "", details: Sequence[FieldProblem] = ()) -> None:
        super().__init__(message, hint=hint)
        self.details = tuple(details)


class InvalidFileType(InvalidRequest):
    code = "invalid_file_type"


class FileTooLarge(InvalidRequest):
    code = "file_too_large"


class MultipartUnavailable(InvalidRequest):
    """The storage takes no parts of a file from clients."""

    code = "multipart_unavailable"


class TargetExists(InvalidRequest):
    """The file to write already exists, and overwriting is not allowed."""

    code = "target_exists"


class BadVideo(AlphareelError):
    code = "invalid_video"


class ResolutionTooLarge(BadVideo):
    code = "resolution_too_large"


class DurationTooLong(BadVideo):
    code = "duration_too_long"


class ModelUnavailable(AlphareelError):
    code = "model_unavailable"


class FormatUnavailable(AlphareelError):
    code = "format_unavailable"


class WeightsInvalid(AlphareelError):
    code = "weights_invalid"


class SubjectNotFound(AlphareelError):
    code = "subject_not_found"


class VerificationFailed(AlphareelError):
    code = "verification_failed"
    retryable = True


class Cancelled(AlphareelError):
    code = "cancelled"


class Timeout(AlphareelError):
    code = "timeout"
    retryable = True


class OutOfMemory(AlphareelError):
    code = "out_of_memory"


class WorkerCrashed(AlphareelError):
    code = "worker_crashed"
    retryable = True


class FetchRefused(AlphareelError):
    code = "url_refused"


class FetchFailed(AlphareelError):
    code = "fetch_failed"
    retryable = True


class StorageFailed(AlphareelError):
    code = "storage_failed"
    retryable = True


class StorageQuotaExceeded(AlphareelError):
    code = "storage_quota_exceeded"


class StorageFull(AlphareelError):
    code = "storage_full"
    retryable = True


class NotFound(AlphareelError):
    code = "not_found"


class InvalidState(AlphareelError):
    code = "invalid_state"


class OffsetMismatch(AlphareelError):
    code = "offset_mismatch"


class ChecksumMismatch(AlphareelError):
    code = "checksum_mismatch"
    retryable = True


class UploadLocked(AlphareelError):
    """``retry_after``: seconds until the lock expires, unless its holder renews it."""

    code = "upload_locked"
    retryable = True

    def __init__(self, message: str, *, hint: str = "", retry_after: float = 1.0) -> None:
        super().__init__(message, hint=hint)
        self.retry_after = retry_after


class VersionUnsupported(AlphareelError):
    code = "version_unsupported"


class MediaTypeUnsupported(AlphareelError):
    code = "media_type_unsupported"


class JobNotCompleted(AlphareelError):
    code = "job_not_completed"


class MissingApiKey(AlphareelError):
    code = "missing_api_key"


class InvalidApiKey(AlphareelError):
    code = "invalid_api_key"


class MissingAdminToken(AlphareelError):
    code = "missing_admin_token"


class InvalidAdminToken(AlphareelError):
    code = "invalid_admin_token"


class MissingRunnerToken(AlphareelError):
    code = "missing_runner_token"


class InvalidRunnerToken(AlphareelError):
    code = "invalid_runner_token"


class MethodNotAllowed(AlphareelError):
    code = "method_not_allowed"


class InsufficientCredits(AlphareelError):
    code = "insufficient_credits"


class RateLimited(AlphareelError):
    """``retry_after``: seconds after which to repeat the request."""

    code = "rate_limited"
    retryable = True

    def __init__(self, message: str, *, hint: str = "", retry_after: float = 1.0) -> None:
        super().__init__(message, hint=hint)
        self.retry_after = retry_after


class TooManyJobs(RateLimited):
    code = "too_many_jobs"


class TooManyUploads(RateLimited):
    code = "too_many_uploads"


class IdempotencyConflict(AlphareelError):
    code = "idempotency_conflict"


class IdempotencyInProgress(AlphareelError):
    """``retry_after``: seconds until the reservation of the key expires, unless its holder renews it."""

    code = "idempotency_in_progress"
    retryable = True

    def __init__(self, message: str, *, hint: str = "", retry_after: float = 1.0) -> None:
        super().__init__(message, hint=hint)
        self.retry_after = retry_after


class Unavailable(AlphareelError):
    """``retry_after``: seconds after which a retry may succeed; None when unknown."""

    code = "unavailable"
    retryable = True

    def __init__(self, message: str, *, hint: str = "", retry_after: float | None = None) -> None:
        super().__init__(message, hint=hint)
        self.retry_after = retry_after


class QueueFull(Unavailable):
    code = "queue_full"


class DatabaseFull(Unavailable):
    """The disk of the database is full. The transaction changed nothing."""

    code = "database_full"


class DatabaseReadOnly(Unavailable):
    """The database can only be read. The transaction changed nothing."""

    code = "database_read_only"


class InternalError(AlphareelError):
    code = "internal_error"
    retryable = True


def by_code(code: str, message: str, *, hint: str = "") -> AlphareelError:
    """An error of the class with this code; InternalError for an unknown code. Rebuilds errors of another process."""
    pending: list[type[AlphareelError]] = [AlphareelError]
    while pending:
        kind = pending.pop()
        pending.extend(kind.__subclasses__())
        if kind.__dict__.get("code") == code and kind is not AlphareelError:
            return kind(message, hint=hint)
    return InternalError(message, hint=hint)
