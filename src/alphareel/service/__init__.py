"""Rules of the service, by subject. No web framework and no database driver."""
