"""Runners: machines that join with a token and run tasks of jobs, without access to database, queue or storage."""
