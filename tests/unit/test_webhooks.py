"""What is sent is what receivers verify: by RemoveBGVideo's way in two languages, and by Standard Webhooks'."""

import base64
import hashlib
import hmac
import json
import shutil
import subprocess
from datetime import UTC, datetime, timedelta, tzinfo

import pytest
from standardwebhooks import Webhook, WebhookVerificationError

from alphareel.service.webhooks.events import (
    RETRY_DELAYS,
    Attempt,
    Secrets,
    State,
    next_state,
    standard_key,
    write_body,
)

SECRET = "a shared secret"
NOW = datetime(2026, 11, 22, 12, 0, 0, tzinfo=UTC)
BODY = write_body("whd_1", "job.completed", {"id": "job_1", "name": 'ü ☂ \\ "'}, now=NOW)


@pytest.fixture(autouse=True)
def _now(monkeypatch: pytest.MonkeyPatch) -> None:
    """Standard Webhooks refuses what is older than five minutes; a whole suite may take longer to come here."""

    class Stopped(datetime):
        @classmethod
        def now(cls, tz: tzinfo | None = None) -> datetime:  # type: ignore[override]
            return NOW.astimezone(tz)

    monkeypatch.setattr("standardwebhooks.webhooks.datetime", Stopped)


def sign(*secrets: str) -> dict[str, str]:
    return Secrets(secrets).headers("whd_1", BODY, now=NOW)


def is_signed(headers: dict[str, str], body: bytes, secret: str) -> bool:
    """The check that RemoveBGVideo documents."""
    signed = headers["X-Webhook-Timestamp"].encode() + b"." + body
    expected = "sha256=" + hmac.new(secret.encode(), signed, hashlib.sha256).hexdigest()
    return hmac.compare_digest(expected, headers["X-Webhook-Signature"])


def test_the_signature_is_the_documented_one() -> None:
    assert is_signed(sign(SECRET), BODY, SECRET)
    assert not is_signed(sign(SECRET), BODY + b" ", SECRET)
    assert not is_signed(sign(SECRET), BODY, "another secret")
    assert datetime.fromisoformat(sign(SECRET)["X-Webhook-Timestamp"]).tzinfo is not None


@pytest.mark.skipif(shutil.which("node") is None, reason="node is not installed")
def test_the_signature_is_the_documented_one_in_javascript_too() -> None:
    program = """
        const crypto = require("crypto"), [secret, timestamp, signature] = process.argv.slice(1);
        const body = require("fs").readFileSync(0);
        const expected = "sha256=" + crypto.createHmac("sha256", secret).update(`${timestamp}.${body}`).digest("hex");
        process.exit(crypto.timingSafeEqual(Buffer.from(expected), Buffer.from(signature)) ? 0 : 1);
    """
    headers = sign(SECRET)
    words = [SECRET, headers["X-Webhook-Timestamp"], headers["X-Webhook-Signature"]]
    subprocess.run(["node", "-e", program, *words], input=BODY, check=True, timeout=200)


@pytest.mark.parametrize("secret", ["whsec_" + base64.b64encode(b"x" * 24).decode(), SECRET])
def test_the_standard_webhooks_library_agrees(secret: str) -> None:
    told = Webhook(standard_key(secret)).verify(BODY, sign(secret))
    assert told["data"]["id"] == "job_1"
    if secret.startswith("whsec_"):
        assert Webhook(secret).verify(BODY, sign(secret)) == told
    with pytest.raises(WebhookVerificationError):
        Webhook(b"another").verify(BODY, sign(secret))


def test_two_secrets_both_verify_while_receivers_change_over() -> None:
    headers = sign("the new secret", "the old secret")
    for secret in ("the new secret", "the old secret"):
        Webhook(standard_key(secret)).verify(BODY, headers)
    assert is_signed(headers, BODY, "the new secret")


def test_without_a_secret_nothing_is_signed_but_all_is_named_and_dated() -> None:
    assert set(sign()) == {"X-Webhook-Delivery-Id", "X-Webhook-Timestamp", "webhook-id", "webhook-timestamp"}


def test_the_body_has_the_documented_envelope() -> None:
    told = json.loads(BODY)
    assert (told["event"], told["event_id"], told["timestamp"]) == (
        "job.completed",
        "whd_1",
        sign()["X-Webhook-Timestamp"],
    )


def test_tries_wait_longer_and_longer_and_then_end() -> None:
    failed = Attempt(NOW, 500, "no", 1)
    outcomes = [next_state(tries, failed) for tries in range(1, 9)]
    assert [wait.total_seconds() for _, wait in outcomes[:-1]] == [5, 30, 120, 600, 3600, 21600, 86400]
    assert outcomes[-1] == (State.FAILED, timedelta())
    assert RETRY_DELAYS[0] == timedelta()


@pytest.mark.parametrize("attempt", [Attempt(NOW, 410, "gone", 1), Attempt(NOW, None, "private", 1, final=True)])
def test_who_is_gone_or_must_not_be_reached_is_not_tried_again(attempt: Attempt) -> None:
    assert next_state(1, attempt)[0] is State.FAILED


def test_a_delivery_that_was_accepted_is_sent() -> None:
    assert next_state(8, Attempt(NOW, 204, None, 1))[0] is State.SENT


def test_no_secret_is_shown() -> None:
    assert SECRET not in repr(Secrets((SECRET,)))
