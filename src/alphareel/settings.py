"""Environment to frozen settings, once."""
