"""Analyses of mattes: quality over time, and the subjects."""
