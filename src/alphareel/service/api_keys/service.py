"""API keys: made, shown once, stored as SHA-256, and found again by what a caller sends."""

from __future__ import annotations

import hashlib
import hmac
import secrets
import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING

from alphareel.domain.errors import InvalidApiKey, MissingApiKey
from alphareel.service.api_keys.models import ApiKey

if TYPE_CHECKING:
    from alphareel.db.api_keys import ApiKeyStore

_LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"
_SECRET_LETTERS = 43  # 62 ** 43 > 2 ** 256
_FROM_SETTINGS = "settings"
_FIRST = "first"
_LONGEST = 1000


@dataclass(frozen=True)
class NewKey:
    """A key at the one moment when its secret is known."""

    key: ApiKey
    secret: str


def make_secret(public_id: str, *, test: bool = False) -> str:
    """``ar_live_<id>_<secret>``: recognizable in a leak, 256 random bits, safe in a header and a shell."""
    return f"ar_{'test' if test else 'live'}_{public_id}_" + "".join(
        secrets.choice(_LETTERS) for _ in range(_SECRET_LETTERS)
    )


class ApiKeyService:
    """The desk where keys are checked and handed out."""

    def __init__(self, store: ApiKeyStore) -> None:
        self._store = store

    def authenticate(self, secret: str | None) -> ApiKey:
        """The enabled key with this secret. Raises MissingApiKey, InvalidApiKey."""
        if not secret:
            raise MissingApiKey("The request carries no API key.", hint="Send it in the header X-Api-Key.")
        key = self._store.key_by_secret(digest(secret)) if len(secret) <= _LONGEST else None
        if key is None or not key.enabled:
            raise InvalidApiKey("Invalid API key", hint="Send a key of this server that is enabled.")
        return key

    def of_client(self, client_id: str) -> tuple[str, ...]:
        """Ids of all keys of a client, shut ones included: their jobs are the client's still."""
        return self._store.key_ids(client_id)

    def admit(self, secret: str) -> None:
        """Make the value from the settings the secret of one key, whose jobs stay its own when the value changes."""
        facts = {"secret_sha256": digest(secret), "fingerprint": fingerprint(secret)}
        known = self._store.key_by_secret(facts["secret_sha256"])
        if known is not None or self._store.replace_secret(_FROM_SETTINGS, **facts):
            return
        self._store.add_key(key_id=_FROM_SETTINGS, client_id="default", note="from ALPHAREEL_API_KEY", **facts)

    def make_first(self) -> NewKey | None:
        """A key for an installation that has none; None when there is one, or another process is making it."""
        if self._store.keys():
            return None
        secret = make_secret(uuid.uuid4().hex[:12])
        facts = {"secret_sha256": digest(secret), "fingerprint": fingerprint(secret)}
        key = self._store.add_key(key_id=_FIRST, client_id="default", note="made at the first start", **facts)
        return NewKey(key, secret) if key is not None else None


def digest(secret: str) -> str:
    """SHA-256, hex. A slow hash would protect guessable secrets; ours have 256 random bits."""
    return hashlib.sha256(secret.encode("utf-8", "surrogateescape")).hexdigest()


def fingerprint(secret: str) -> str:
    """A name for a key that may be shown and logged and tells nothing of the secret."""
    return (
        "fp_" + hmac.new(b"alphareel fingerprint", secret.encode("utf-8", "surrogateescape"), "sha256").hexdigest()[:16]
    )
