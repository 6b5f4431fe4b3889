"""Worker processes as values."""

from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True)
class Executor:
    """A worker process that sends heartbeats."""

    id: str
    #: Names the data directory whose lock the process holds; empty for none.
    home: str
    #: Counts heartbeats.
    beat: int
    started_at: datetime
