"""The contract's price list: credits for a minute of video. What is charged is decided elsewhere."""

from alphareel.domain.options import Tier
from alphareel.http import schemas

CREDITS_PER_MINUTE: dict[Tier, float] = {"original": 60, "light": 45, "pro": 180, "human": 45}
VERSION = "1"

LIST = schemas.Pricing(
    model_pricing_credits_per_minute=CREDITS_PER_MINUTE,
    price_per_second_cents=0,
    packages=[
        schemas.Package(id=name.lower(), name=name, credits=0, price_cents=0) for name in ("Starter", "Pro", "Business")
    ],
    pricing_version=VERSION,
)
