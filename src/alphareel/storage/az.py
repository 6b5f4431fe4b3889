"""Blobs in a container of Azure Blob Storage."""

from alphareel.storage._bucket import open_blobs

__all__ = ["open_blobs"]
