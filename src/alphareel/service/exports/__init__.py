"""Exports: further outputs of a completed job, made of the matte that was kept with it."""
