"""The SDK: an HTTP client of the service and nothing else; it shares no code with the server.

``Client`` is the whole API with retries, streaming uploads and resumable, verified downloads.
``RemoveBGVideoClient`` has the surface of RemoveBGVideo's Python SDK: change the import and the base URL.
"""

from alphareel_client.client import Client
from alphareel_client.dropin import RemoveBGVideoClient
from alphareel_client.errors import ApiError, ClientError, DownloadFailed, JobFailed, RemoveBGVideoError
from alphareel_client.types import Job, JobPage, Upload

__all__ = [
    "ApiError",
    "Client",
    "ClientError",
    "DownloadFailed",
    "Job",
    "JobFailed",
    "JobPage",
    "RemoveBGVideoClient",
    "RemoveBGVideoError",
    "Upload",
]
