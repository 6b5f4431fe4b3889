"""Checks of blob keys, the same in every store."""

from pathlib import PurePosixPath

from alphareel.domain.errors import NotFound


def parts_of(key: str) -> tuple[str, ...]:
    """Split the key at its slashes. Raises NotFound for a key that could leave the store or name a hidden file."""
    parts = PurePosixPath(key).parts
    plain = "/".join(parts) == key and not any(p.startswith(".") or "\\" in p or "\0" in p for p in parts)
    if not parts or key.startswith("/") or not plain:
        raise NotFound(f"{key!r} is not a blob key.")
    return parts


def no_blob(key: str) -> NotFound:
    return NotFound(f"There is no blob {key!r}.")
