"""Bytes to frames and frames to bytes: the only package that imports FFmpeg's binding (av)."""
