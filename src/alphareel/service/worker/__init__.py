"""The worker: runs attempts in child processes and keeps the executor alive."""
