"""Batches: several jobs in one request."""
