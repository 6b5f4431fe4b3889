"""The wire: FastAPI routes over the jobs services."""
