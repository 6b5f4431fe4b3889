"""Storage quotas of a key and of the installation: uploads and results together; a shared file counts once."""

from dataclasses import dataclass

from alphareel.domain.errors import StorageFull, StorageQuotaExceeded


@dataclass(frozen=True)
class StoredBytes:
    """Bytes that a key stores; ``most`` is its quota, None for no limit."""

    uploads: int
    outputs: int
    most: int | None

    @property
    def total(self) -> int:
        return self.uploads + self.outputs


def check_quota(*, used: int, most: int, size: int) -> int:
    """Bytes left of a key's quota. Raises StorageQuotaExceeded."""
    left = max(0, most - used)
    if used + size > most:
        raise StorageQuotaExceeded(
            f"The files of this key may take {most} bytes in all, of which {left} are left.",
            hint="Delete jobs and uploads that are not needed any more.",
        )
    return left


def check_storage_quotas(*, used: int, most: int, size: int) -> int:
    """Bytes left of the installation's quota. Raises StorageFull."""
    left = max(0, most - used)
    if used + size > most:
        raise StorageFull("The storage of this server is full.", hint="Try again when older files were removed.")
    return left
