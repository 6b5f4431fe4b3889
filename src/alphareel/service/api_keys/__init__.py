"""API keys: authentication, administration, audit log."""
