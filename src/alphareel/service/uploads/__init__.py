"""Uploads: receiving, inspecting, quotas, resolving source URLs."""
