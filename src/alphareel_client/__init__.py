"""The SDK: an HTTP client of the service and nothing else."""
