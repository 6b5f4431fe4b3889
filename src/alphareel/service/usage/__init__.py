"""Usage: recorded calls and sums."""
