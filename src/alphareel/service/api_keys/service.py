"""API keys: creating and authenticating them. Only the SHA-256 of a secret is stored."""

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
FROM_SETTINGS = "settings"
"""ID of the key that ALPHAREEL_API_KEY names."""
_FIRST = "first"
_MAX_SECRET_LENGTH = 1000


@dataclass(frozen=True)
class NewKey:
    """A key that was just created or rotated, with its secret."""

    key: ApiKey
    secret: str


def make_secret(public_id: str, *, test: bool = False) -> str:
    """``ar_live_<id>_<secret>``: 256 random bits, safe in headers and shells, easy to find by leak scanners."""
    return f"ar_{'test' if test else 'live'}_{public_id}_" + "".join(
        secrets.choice(_LETTERS) for _ in range(_SECRET_LETTERS)
    )


class ApiKeyService:
    def __init__(self, store: ApiKeyStore) -> None:
        self._store = store

    def authenticate(self, secret: str | None) -> ApiKey:
        """The enabled key with this secret. Raises MissingApiKey, InvalidApiKey."""
        if not secret:
            raise MissingApiKey("The request carries no API key.", hint="Send it in the header X-Api-Key.")
        key = self._store.key_by_secret(digest(secret)) if len(secret) <= _MAX_SECRET_LENGTH else None
        if key is None or not key.enabled:
            raise _invalid()
        return key

    def check(self, key: ApiKey | None) -> None:
        """For requests that last. Raises InvalidApiKey if the key was disabled or deleted since the request began."""
        if key is not None and not self._store.keys_by_id([key.id])[key.id].enabled:
            raise _invalid()

    def of_client(self, client_id: str) -> tuple[str, ...]:
        """IDs of all keys of a client, disabled ones included: their jobs still belong to the client."""
        return self._store.key_ids(client_id)

    def admit(self, secret: str) -> None:
        """Accept the secret from the settings. Its key keeps its jobs when the secret changes."""
        facts = {"secret_sha256": digest(secret), "fingerprint": fingerprint(secret)}
        known = self._store.key_by_secret(facts["secret_sha256"])
        if known is not None or self._store.replace_secret(FROM_SETTINGS, **facts):
            return
        self._store.add_key(key_id=FROM_SETTINGS, client_id="default", note="from ALPHAREEL_API_KEY", **facts)

    def make_first(self) -> NewKey | None:
        """Create the first key of an installation; None when there is a key, or another process creates it."""
        if self._store.has_keys():
            return None
        secret = make_secret(uuid.uuid4().hex[:12])
        facts = {"secret_sha256": digest(secret), "fingerprint": fingerprint(secret)}
        key = self._store.add_key(key_id=_FIRST, client_id="default", note="made at the first start", **facts)
        return NewKey(key, secret) if key is not None else None


def _invalid() -> InvalidApiKey:
    return InvalidApiKey("Invalid API key", hint="Send a key of this server that is enabled.")


def digest(secret: str) -> str:
    """SHA-256, hex. A slow hash only helps guessable secrets; these have 256 random bits."""
    return hashlib.sha256(secret.encode("utf-8", "surrogateescape")).hexdigest()


def fingerprint(secret: str) -> str:
    """A name for a key that may be shown and logged; the secret cannot be derived from it."""
    return (
        "fp_" + hmac.new(b"alphareel fingerprint", secret.encode("utf-8", "surrogateescape"), "sha256").hexdigest()[:16]
    )
