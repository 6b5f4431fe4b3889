"""The Python client of the alphareel service.

``Client`` covers the whole API: retries, streaming uploads, resumable and verified downloads, live events, webhooks.
``AdminClient`` manages keys and credits. ``RemoveBGVideoClient`` and ``RemoveBGVideoAdminClient`` have the methods of
RemoveBGVideo's Python SDK: change the import and the base URL.
"""

from alphareel_client.admin import AdminClient
from alphareel_client.client import Client
from alphareel_client.dropin import RemoveBGVideoAdminClient, RemoveBGVideoClient
from alphareel_client.errors import (
    ApiError,
    ClientError,
    DownloadFailed,
    InvalidSignature,
    JobFailed,
    RemoveBGVideoError,
)
from alphareel_client.types import Event, Job, JobPage, Upload
from alphareel_client.webhooks import verify_webhook

__all__ = [
    "AdminClient",
    "ApiError",
    "Client",
    "ClientError",
    "DownloadFailed",
    "Event",
    "InvalidSignature",
    "Job",
    "JobFailed",
    "JobPage",
    "RemoveBGVideoAdminClient",
    "RemoveBGVideoClient",
    "RemoveBGVideoError",
    "Upload",
    "verify_webhook",
]
