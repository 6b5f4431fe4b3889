"""Estimates for API requests, from this installation's history."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from alphareel.domain.options import TIERS, Tier
from alphareel.service.billing.credits import PriceList
from alphareel.service.jobs import requests
from alphareel.service.jobs.estimates import MAX_RUNS, Estimate, SourceFacts, Speed, estimate, speed
from alphareel.service.ports import JobCapabilities
from alphareel.service.principal import Principal
from alphareel.service.uploads.resolver import UploadResolver

if TYPE_CHECKING:
    from alphareel.db.billing import AccountStore
    from alphareel.db.stats import RunHistory


@dataclass(frozen=True)
class EstimateService:
    """Estimates and speeds from this installation's own history."""

    prices: PriceList
    history: RunHistory
    uploads: UploadResolver
    capabilities: JobCapabilities
    accounts: AccountStore

    def estimate(self, principal: Principal, body: Mapping[str, Any]) -> tuple[Estimate, int | None]:
        """The estimate for a job with this body, and the client's balance (hundredths of a credit, None: unlimited).

        Raises InvalidRequest, ModelUnavailable.
        """
        request, facts = requests.parse_estimate(body)
        self.capabilities.check(request.requested)
        uploads = self.uploads.of_job(request.video_url, request.requested, key_id=principal.key_id)
        if (upload := uploads.source) is not None:
            facts = SourceFacts(upload.seconds, upload.width, upload.height, upload.rate)
        runs = self.history.latest_runs(limit=MAX_RUNS)
        balance = self.accounts.account(principal.require_key().client_id).balance
        return estimate(request.options, facts, prices=self.prices, runs=runs), balance

    def speeds(self) -> Mapping[Tier, Speed]:
        """Processing speed per model. Raises Unavailable."""
        runs = self.history.latest_runs(limit=MAX_RUNS)
        return {tier: speed(tier, runs) for tier in TIERS}
