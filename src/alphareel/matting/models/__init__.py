"""Models: a file is an engine, its name is its public name."""
