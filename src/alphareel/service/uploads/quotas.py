"""How many bytes a key, and everybody, may keep here: uploads and results together, files held twice counted once."""

from dataclasses import dataclass

from alphareel.domain.errors import StorageFull, StorageQuotaExceeded


@dataclass(frozen=True)
class Quotas:
    """Bytes; 0 for no limit. A key may have one of its own instead of ``per_key``."""

    per_key: int = 0
    in_all: int = 0


@dataclass(frozen=True)
class StoredBytes:
    """Bytes that a key keeps; ``most`` None where it may keep any number."""

    uploads: int
    outputs: int
    most: int | None

    @property
    def total(self) -> int:
        return self.uploads + self.outputs


def check_quota(*, used: int, most: int, wanted: int) -> int:
    """What is left of a key's quota. Raises StorageQuotaExceeded."""
    left = max(0, most - used)
    if used + wanted > most:
        raise StorageQuotaExceeded(
            f"The files of this key may take {most} bytes in all, of which {left} are left.",
            hint="Delete jobs and uploads that are not needed any more.",
        )
    return left


def check_storage_quotas(*, used: int, most: int, wanted: int) -> int:
    """What is left of the room of the whole installation. Raises StorageFull."""
    left = max(0, most - used)
    if used + wanted > most:
        raise StorageFull("The storage of this server is full.", hint="Try again when older files were removed.")
    return left
