"""Settings, dependency wiring, and the API and worker processes."""
