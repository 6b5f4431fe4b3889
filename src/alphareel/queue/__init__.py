"""Adapter for the queue engine. Its tables may be dropped at any time: our own tables are the source of truth."""
