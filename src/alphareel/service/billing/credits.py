"""Prices, reservations and settlements, as arithmetic in whole hundredths of a credit."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from fractions import Fraction
from typing import Any

from alphareel.domain.errors import InsufficientCredits, MissingApiKey
from alphareel.domain.options import TIERS, Options, Tier
from alphareel.service.jobs.models import Billing, Job

MAX_CREDITS = 10**12  # hundredths, of an account
_MAX_PER_MINUTE = 1_000_000


@dataclass(frozen=True)
class Quote:
    """The price of one run, agreed when it starts."""

    #: Hundredths of a credit per minute.
    price: int
    pricing_version: str
    #: Length that is billed; None while it is unknown.
    seconds: float | None


@dataclass(frozen=True)
class PriceList:
    """Hundredths of a credit per minute of video, by tier and for exports, and the name of this list."""

    per_minute: Mapping[Tier, int]
    version: str
    export_per_minute: int = 0

    def quote(self, options: Options, seconds: float | None) -> Quote:
        """The price of a run over a source of this length; None while the length is unknown."""
        return Quote(self.per_minute[options.model], self.version, billed_seconds(options, seconds))


@dataclass(frozen=True)
class Account:
    """A client's credits in hundredths. ``balance`` can be reserved; None means unlimited."""

    client_id: str
    balance: int | None
    reserved: int
    charged: int


@dataclass(frozen=True)
class LedgerEntry:
    """A row of the ledger. The amounts of a client add up to the balance."""

    #: The job, or the name of the grant.
    subject: str
    run: int
    #: grant, set, reserve, settle or release.
    kind: str
    client_id: str
    #: Change of the balance in hundredths.
    amount: int
    at: datetime
    actor: str
    request_id: str | None


def billed_seconds(options: Options, seconds: float | None) -> float | None:
    """The length that is billed: a preview is billed for its own length."""
    if options.preview_duration is None:
        return seconds
    return options.preview_duration if seconds is None else min(seconds, options.preview_duration)


def cost(seconds: float, price: int) -> int:
    """Hundredths for this length, rounded up; 0 only for no length and at a price of 0.

    The length is rounded to microseconds, because smaller parts are rounding errors of floats.
    """
    exact = math.ceil(Fraction(round(seconds * 1_000_000), 60_000_000) * price)
    return max(exact, 1) if seconds > 0 and price > 0 else exact


def settled(seconds: float, price: int, *, reserved: int) -> int:
    """The charge at the end: the cost of the processed seconds, but never more than was reserved."""
    return min(cost(seconds, price), reserved)


def paid_seconds(job: Job) -> float | None:
    """How much video a run may process for the credits it has reserved; None for no limit.

    There is no limit either where nothing is charged: for an unlimited client, or at a price of 0.
    """
    if not job.price or job.billing_status is not Billing.RESERVED:
        return None
    return job.credits * 60 / job.price


def processed_seconds(output: Mapping[str, Any]) -> float:
    """Seconds of the source that a finished run is charged for; ``output``: fields of ``Output``.

    The same for every format: a poster needs as much work as a video. Results of older versions only have the
    length of the output.
    """
    seconds = output.get("source_seconds")
    return float(output["seconds"] if seconds is None else seconds)


def parse_prices(text: str, version: str, export: str = "0") -> PriceList:
    """Credits a minute as 'original=60,light=45,...'; every tier once. ``export``: those of an export.

    Raises ValueError with what is wrong.
    """
    pairs = [part.partition("=") for part in text.split(",") if part.strip()]
    prices = {name.strip(): value for name, _, value in pairs}
    if set(prices) != set(TIERS) or len(pairs) != len(TIERS):
        raise ValueError(f"must name {', '.join(TIERS)} once each, as in original=60,light=45,pro=180,human=45")
    return PriceList({tier: _hundredths(prices[tier]) for tier in TIERS}, version, _hundredths(export))


def insufficient() -> InsufficientCredits:
    return InsufficientCredits(
        "Not enough credits to process this video", hint="Add credits, or process less of it with preview_duration."
    )


def key_needed() -> MissingApiKey:
    return MissingApiKey(
        "This server charges credits, so a job needs an API key.", hint="Send the key in the header X-Api-Key."
    )


def over_budget(budget: int) -> InsufficientCredits:
    """``budget``: credits per month of the key."""
    return InsufficientCredits(
        "Not enough credits to process this video",
        hint=f"This key may use {budget} credits a month: wait for the next, or have the budget raised.",
    )


def _hundredths(text: str) -> int:
    try:
        exact = Fraction(text.strip()) * 100
    except (ValueError, ZeroDivisionError):
        raise ValueError(f"{text.strip()!r} is not a number of credits") from None
    if not 0 <= exact <= _MAX_PER_MINUTE * 100 or exact.denominator != 1:
        raise ValueError("credits a minute must be between 0 and a million, with two decimals at most")
    return int(exact)
