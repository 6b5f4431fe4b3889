"""The database adapter: our tables on SQLite and PostgreSQL through one code path. Knows no queue engine."""
