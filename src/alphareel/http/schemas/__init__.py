"""Request and response bodies, one module per subject; they make up the OpenAPI document."""
