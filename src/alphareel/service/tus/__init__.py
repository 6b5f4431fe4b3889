"""Resumable uploads by the tus protocol: received in parts, then stored like every other upload."""
