"""Frames to alpha: engines, their weights, refinement. The only package that imports an inference runtime."""
