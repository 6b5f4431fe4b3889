"""Measurements: ratios inside one run, a table, and a history in results/. Never asserted in a timed test."""
