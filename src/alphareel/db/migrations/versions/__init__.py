"""Revisions, oldest first by number; a released one never changes."""
