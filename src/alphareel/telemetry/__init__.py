"""Logging and tracing for every layer."""
