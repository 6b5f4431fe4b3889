"""Everything the HTTP layer may call, by subject."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from alphareel.service.analyses.service import AnalysisService
from alphareel.service.api_keys.admin import AdminService
from alphareel.service.api_keys.service import ApiKeyService
from alphareel.service.batches.service import BatchService
from alphareel.service.billing.credits import PriceList
from alphareel.service.corrections.service import CorrectionService
from alphareel.service.exports.embed import EmbedService
from alphareel.service.exports.layers import LayerService
from alphareel.service.exports.service import ExportService
from alphareel.service.files.service import FileService
from alphareel.service.health import HealthMonitor
from alphareel.service.jobs.estimate_service import EstimateService
from alphareel.service.jobs.service import JobService
from alphareel.service.jobs.watch import JobWatch
from alphareel.service.proofs.service import ProofService
from alphareel.service.runners.admin import RunnerAdmin
from alphareel.service.runners.service import RunnerService
from alphareel.service.stats import StatsService
from alphareel.service.tus.service import TusService
from alphareel.service.uploads.multipart import MultipartService
from alphareel.service.uploads.service import UploadService
from alphareel.service.usage.service import CallLog, UsageService
from alphareel.service.webhooks.service import WebhookService

if TYPE_CHECKING:
    from alphareel.db.idempotency import IdempotencyStore


@dataclass(frozen=True)
class Services:
    """One instance per process. Stateless apart from ``calls``, so any number of processes may serve at once."""

    jobs: JobService
    exports: ExportService
    embeds: EmbedService
    layers: LayerService
    batches: BatchService
    proofs: ProofService
    corrections: CorrectionService
    analyses: AnalysisService
    estimates: EstimateService
    uploads: UploadService
    tus: TusService
    multipart_uploads: MultipartService
    files: FileService
    webhooks: WebhookService
    usage: UsageService
    calls: CallLog
    api_keys: ApiKeyService
    admin: AdminService
    runners: RunnerService
    runner_admin: RunnerAdmin
    prices: PriceList
    health: HealthMonitor
    stats: StatsService
    idempotency: IdempotencyStore
    watch: JobWatch
