"""JSON of the health checks."""

from typing import Literal

from pydantic import Field

from alphareel.http.schemas.fields import Schema


class HealthChecks(Schema):
    api: bool
    database_configured: bool
    worker_configured: bool
    storage_configured: bool
    runpod_configured: bool = Field(description="The same as worker_configured.")
    r2_configured: bool = Field(description="The same as storage_configured.")


class Health(Schema):
    status: Literal["healthy", "degraded"]
    version: str
    checks: HealthChecks


class Liveness(Schema):
    status: Literal["alive", "ready"]
