"""Blobs adapters: the file name is the URL scheme."""
