"""How slowly a client may send or receive a body."""

from dataclasses import dataclass
from typing import Self

from alphareel.service.settings import HttpSettings


@dataclass(frozen=True)
class BodyTimeouts:
    """How slowly a client may send or receive a body.

    ``idle_seconds``: longest time without any data. ``bytes_per_second``: minimum average rate, 0 for none; it
    applies after ``grace_seconds``. Together they bound the time for a body of any size.
    """

    idle_seconds: float = 60.0
    bytes_per_second: int = 16 * 1024
    grace_seconds: float = 60.0

    @classmethod
    def of_requests(cls, http: HttpSettings) -> Self:
        return cls(http.idle_seconds, http.min_body_rate, http.grace_seconds)

    @classmethod
    def of_responses(cls, http: HttpSettings) -> Self:
        return cls(http.idle_seconds, http.min_read_rate, http.grace_seconds)

    def is_too_slow(self, waited: float, transferred: int) -> bool:
        """Whether ``transferred`` bytes in ``waited`` seconds are below the minimum rate."""
        return self.bytes_per_second > 0 and waited > self.grace_seconds + transferred / self.bytes_per_second
