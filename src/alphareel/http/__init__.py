"""The HTTP API: FastAPI routes over the services. Imports no storage, database, codec or engine."""
