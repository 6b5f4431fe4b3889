"""Weights for the models folder: fetched, imported, verified, removed. No job and no engine may import this."""
