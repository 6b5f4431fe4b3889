"""Alembic migrations, one revision a file, run by ``db/migrate.py``."""
