"""Tables and queries, one module per service subject."""
