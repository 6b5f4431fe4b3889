"""Blobs in a bucket of S3, and of stores that speak its language."""

from alphareel.storage._bucket import open_blobs

__all__ = ["open_blobs"]
