"""Blobs adapters: a file here serves the URL scheme it is named after, through ``open_blobs(url)``."""
