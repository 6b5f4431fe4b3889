"""Joins media and matting: one run from a source file to its outputs."""
