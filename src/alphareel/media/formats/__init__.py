"""Formats: a file is a format, its name is its public name."""
