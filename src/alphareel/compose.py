"""Planes over planes."""
