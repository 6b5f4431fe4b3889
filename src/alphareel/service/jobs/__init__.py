"""Jobs: models, request bodies, limits, estimates, retention, deletion."""
