"""Downloads, verifies and installs model weights."""
