"""Alembic's folder: one revision a file, run by ``jobstore/migrate.py``."""
