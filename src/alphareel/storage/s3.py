"""Blobs in a bucket of S3 or of an S3-compatible store."""

from alphareel.storage._bucket import open_blobs

__all__ = ["open_blobs"]
