"""What a key of a blob may look like, in every store."""

from pathlib import PurePosixPath

from alphareel.domain.errors import NotFound


def parts_of(key: str) -> tuple[str, ...]:
    """The key's parts. Raises NotFound for a key that could lead out of a store, or to a hidden place in it."""
    parts = PurePosixPath(key).parts
    plain = "/".join(parts) == key and not any(p.startswith(".") or "\\" in p or "\0" in p for p in parts)
    if not parts or key.startswith("/") or not plain:
        raise NotFound(f"{key!r} is no key of a blob.")
    return parts


def no_blob(key: str) -> NotFound:
    return NotFound(f"There is no blob {key!r}.")
