"""Jobs: models, validation, limits, estimates, retention, deletion."""
