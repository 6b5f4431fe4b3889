"""The wire: FastAPI routes over the use cases of ``jobs``; no storage, codec or engine is known here."""
