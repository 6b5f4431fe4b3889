"""The engine adapter: durable execution behind ``jobs.ports.JobEngine``. Its tables may be thrown away at any time."""
