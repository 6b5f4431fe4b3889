"""Webhooks: see and resend the deliveries of a job, send a test, verify a signature."""

import base64
import binascii
import hashlib
import hmac
import json
import time
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import cast

from alphareel_client.errors import InvalidSignature
from alphareel_client.transport import HttpSession
from alphareel_client.types import WebhookDelivery, WebhookList, WebhookPayload, WebhookTest


class Webhooks:
    """The webhook calls of a ``Client``."""

    def __init__(self, session: HttpSession) -> None:
        self._session = session

    def list(self, job_id: str) -> WebhookList:
        """The deliveries of a job with every attempt, in the order of their events. Raises ApiError."""
        return cast(WebhookList, self._session.get(f"/v1/jobs/{job_id}/webhooks"))

    def redeliver(self, job_id: str, delivery_id: str) -> WebhookDelivery:
        """Send a delivery again, now, under the same delivery id. Raises ApiError."""
        path = f"/v1/jobs/{job_id}/webhooks/{delivery_id}/redeliver"
        return cast(WebhookDelivery, self._session.post(path))

    def test(self, webhook_url: str) -> WebhookTest:
        """Send one ``webhook.test`` event to a URL; the result has ``delivered`` and the attempt. Raises ApiError."""
        return cast(WebhookTest, self._session.post("/v1/webhooks/test", {"webhook_url": webhook_url}))


def verify_webhook(
    body: bytes, headers: Mapping[str, str], secret: str | Sequence[str], *, tolerance: float = 300.0
) -> WebhookPayload:
    """Check who sent a webhook and return its JSON.

    Parameters
    ----------
    body
        The raw request body. Parsed and re-encoded JSON has another signature.
    headers
        The request headers; names in any case.
    secret
        The service's ALPHAREEL_WEBHOOK_SECRET; several while it is being changed.
    tolerance
        Seconds by which the timestamp may differ from this machine's clock.

    Raises
    ------
    InvalidSignature
        The headers are missing, the signature matches no secret, or the timestamp is outside the tolerance.
    """
    secrets = [secret] if isinstance(secret, str) else list(secret)
    lower = {name.lower(): value for name, value in headers.items()}
    try:
        sent_at = next(at for value in secrets if value and (at := _signed_at(body, lower, value)) is not None)
        payload = json.loads(body)
    except StopIteration:
        raise InvalidSignature("The webhook has no valid signature. Compare the secret with the service's.") from None
    except ValueError:
        raise InvalidSignature("The webhook's timestamp or body cannot be read.") from None
    if not abs(time.time() - sent_at) <= tolerance:
        raise InvalidSignature(f"The webhook's timestamp is more than {tolerance:g} s from this machine's clock.")
    return cast(WebhookPayload, payload)


def _signed_at(body: bytes, headers: Mapping[str, str], secret: str) -> float | None:
    """The Unix time that a valid signature covers; None without one. Raises ValueError for an unreadable time."""
    if _matches_standard(body, headers, secret):
        return float(headers["webhook-timestamp"])
    if _matches_contract(body, headers, secret):
        return datetime.fromisoformat(headers["x-webhook-timestamp"]).timestamp()
    return None


def _matches_contract(body: bytes, headers: Mapping[str, str], secret: str) -> bool:
    """RemoveBGVideo's scheme: hex HMAC-SHA256 over timestamp, dot, body."""
    message = headers.get("x-webhook-timestamp", "").encode() + b"." + body
    expected = "sha256=" + hmac.new(secret.encode(), message, hashlib.sha256).hexdigest()
    return hmac.compare_digest(expected.encode(), headers.get("x-webhook-signature", "").encode())


def _matches_standard(body: bytes, headers: Mapping[str, str], secret: str) -> bool:
    """Standard Webhooks 1.0: base64 HMAC-SHA256 over id, dot, Unix time, dot, body; one signature for each secret."""
    prefix = f"{headers.get('webhook-id', '')}.{headers.get('webhook-timestamp', '')}."
    digest = hmac.new(_standard_key(secret), prefix.encode() + body, hashlib.sha256).digest()
    expected = b"v1," + base64.b64encode(digest)
    signatures = headers.get("webhook-signature", "").split()
    return any(hmac.compare_digest(expected, signature.encode()) for signature in signatures)


def _standard_key(secret: str) -> bytes:
    if not secret.startswith("whsec_"):
        return secret.encode()
    try:
        return base64.b64decode(secret.removeprefix("whsec_") + "==", validate=False)
    except binascii.Error:
        raise ValueError("The webhook secret is not base64 after whsec_.") from None
