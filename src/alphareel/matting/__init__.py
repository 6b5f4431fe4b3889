"""Computes alpha from frames: engines, weights, refinement. The only package that imports an inference runtime."""
