"""The price list as the contract shows it."""

from alphareel.http import schemas
from alphareel.jobs.credits import Prices

_PACKAGES = [
    schemas.Package(id=name.lower(), name=name, credits=0, price_cents=0) for name in ("Starter", "Pro", "Business")
]


def show(prices: Prices) -> schemas.Pricing:
    """The packages of the contract are named; what they hold and cost is nowhere said, and nothing is sold here."""
    return schemas.Pricing(
        model_pricing_credits_per_minute={tier: price / 100 for tier, price in prices.per_minute.items()},
        price_per_second_cents=0,
        packages=_PACKAGES,
        pricing_version=prices.version,
    )
