"""Corrections of the matte of a completed job."""
