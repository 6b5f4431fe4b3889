"""Proofs: sample frames of a clip with several engines, before a job is created."""
