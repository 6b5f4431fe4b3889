"""Frames as planes, color conversion and compositing. Knows no codec and no model."""
