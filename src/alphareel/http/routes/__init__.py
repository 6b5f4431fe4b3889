"""One file a resource; each defines ``router``."""
