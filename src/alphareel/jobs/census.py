"""How the service is doing, counted in the database, so that it is the same whichever process is asked."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Protocol

WINDOW = timedelta(hours=1)
"""Wait, run time and speed are those of the jobs that were completed in this time."""


@dataclass(frozen=True)
class Finished:
    """A job that was completed lately. Seconds from its creation to its first worker, and from there to the end."""

    waited: float
    ran: float
    frames: int


@dataclass(frozen=True)
class Census:
    """``jobs``: by status, deleted ones too. ``failures``: ended runs by error code, ever.

    ``oldest_seconds``: how long the longest waiting job waits; 0 when none does. ``webhooks``: by state.
    """

    jobs: Mapping[str, int]
    failures: Mapping[str, int]
    oldest_seconds: float
    finished: Sequence[Finished]
    webhooks: Mapping[str, int]
    executors: int


class Counting(Protocol):
    def census(self) -> Census:
        """Raises Unavailable."""
