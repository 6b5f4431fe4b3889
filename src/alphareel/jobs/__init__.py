"""The service's heart: jobs, uploads, keys, credits. No web framework, no database driver."""
