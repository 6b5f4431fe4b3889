"""What operating the service needs from outside: keys, their audit, credits, calls and requests that repeat."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any


@dataclass(frozen=True)
class AuditContext:
    """An operator's deed on its way into the audit."""

    actor: str
    action: str
    request_id: str | None


@dataclass(frozen=True)
class AdminEvent:
    """One row of the admin audit; never changed. ``subject``: the key's fingerprint or the client."""

    id: int
    at: datetime
    actor: str
    action: str
    subject: str
    detail: Mapping[str, Any]
    request_id: str | None
