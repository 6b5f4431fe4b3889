"""The compiled pixel loops of alphareel, as a C library for ctypes."""

from pathlib import Path


def library_path() -> Path | None:
    """The shared library; None when it was installed without a C compiler."""
    return next(Path(__file__).parent.glob("kernels*.so"), None)
