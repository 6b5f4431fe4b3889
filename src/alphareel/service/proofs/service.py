"""Requests proofs: six frames of a clip, cut out by every engine that can run here, with what each would cost."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from alphareel.domain.errors import FieldProblem, InvalidRequest, NotFound
from alphareel.domain.options import TIERS, Options, Tier
from alphareel.matting.tiers import EngineStatus
from alphareel.service.billing.credits import PriceList, cost
from alphareel.service.idempotency import IdempotentRequest
from alphareel.service.jobs.models import Job, Kind
from alphareel.service.jobs.service import JobService
from alphareel.service.ports import NewJob
from alphareel.service.principal import Principal
from alphareel.service.proofs.requests import MAX_ENGINES, ProofCreate
from alphareel.service.requests import validated
from alphareel.service.settings import RetentionSettings
from alphareel.service.uploads.resolver import UploadResolver

if TYPE_CHECKING:
    from alphareel.db.idempotency import IdempotencyStore
    from alphareel.db.jobs import JobStore


@dataclass(frozen=True)
class ProofService:
    """A proof is a row of the table of jobs, and is free. ``list_engines``: the state of every engine here."""

    jobs: JobService
    store: JobStore
    uploads: UploadResolver
    list_engines: Callable[[], Sequence[EngineStatus]]
    prices: PriceList
    idempotency: IdempotencyStore
    retention: RetentionSettings

    def create(self, principal: Principal, body: Mapping[str, Any], *, once: IdempotentRequest | None = None) -> Job:
        """Queue a proof of ``video_url`` with ``engines``, or with all that can run here.

        Raises InvalidRequest, also for a test key, whose jobs process nothing; for a repeated ``once``
        ReplayedResponse or IdempotencyConflict.
        """
        if once is not None:
            self.idempotency.lookup(once)
        if principal.key is not None and principal.key.test:
            raise InvalidRequest(
                "Proofs are not available to test keys, which process nothing.", hint="Use a key that is not for tests."
            )
        request = validated(ProofCreate, body)
        engines = self._engines(request.engines, prompted=request.text_prompt is not None)
        uploads = self.uploads.of_job(request.video_url, (), key_id=principal.key_id)
        new = NewJob(
            id="proof_" + secrets.token_hex(20),
            key_id=principal.key_id,
            video_url=request.video_url,
            options=Options(text_prompt=request.text_prompt),
            webhook_url=None,
            metadata={},
            request_id=principal.request_id,
            warnings=(),
            uploads=uploads.ids,
            retention_seconds=self.retention.default,
            kind=Kind.PROOF,
            task={"engines": {status.info.name: self._tier(status) for status in engines}},
        )
        return self.store.add_job(new, start=True, actor=principal.actor, once=once)

    def get(self, principal: Principal, proof_id: str) -> Job:
        """Raises NotFound."""
        proof = self.jobs.get(principal, proof_id)
        if proof.kind is not Kind.PROOF:
            raise NotFound("Proof not found", hint="Check the id; POST /v1/proofs returns it.")
        return proof

    def credits(self, tier: Tier, seconds: float) -> float:
        """What a job of this tier over the whole clip costs a client with a balance."""
        return cost(seconds, self.prices.per_minute[tier]) / 100

    def _engines(self, names: Any, *, prompted: bool) -> list[EngineStatus]:
        statuses = {status.info.name: status for status in self.list_engines()}
        if names is None:
            return [s for s in statuses.values() if s.available and (prompted or not s.info.prompted)]
        if not isinstance(names, list) or not 1 <= len(names) <= MAX_ENGINES:
            raise _bad("engines", f"must be a list of 1 to {MAX_ENGINES} names.")
        for number, name in enumerate(names):
            status = statuses.get(name) if isinstance(name, str) else None
            if status is None:
                raise _bad(f"engines.{number}", f"must be one of {', '.join(statuses)}.")
            if status.reason is not None:
                raise _bad(f"engines.{number}", f"{name} cannot run here: {status.reason}")
        return [statuses[name] for name in dict.fromkeys(names)]

    def _tier(self, status: EngineStatus) -> Tier:
        """The cheapest tier that the engine may serve; engines of no tier are selected beside the default one."""
        return min(status.tiers or TIERS[:1], key=lambda tier: self.prices.per_minute[tier])


def _bad(field: str, message: str) -> InvalidRequest:
    return InvalidRequest(f"{field}: {message}", details=[FieldProblem(field, message)])
