"""Blob stores. Each module serves the URL scheme it is named after, with a function ``open_blobs(url)``."""
