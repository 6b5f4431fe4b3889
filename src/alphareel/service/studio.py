"""One-time links that open the studio with an API key, instead of pasting it."""

from __future__ import annotations

import base64
import hashlib
import hmac
import secrets
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

from alphareel.domain.errors import InvalidApiKey
from alphareel.service.api_keys.service import digest, fingerprint, make_secret
from alphareel.service.ports import Clock

if TYPE_CHECKING:
    from alphareel.db.api_keys import ApiKeyStore

LIFETIME = timedelta(minutes=15)
_STUDIO_KEY = "studio"  # ID of the key for sessions when no other secret is known
_NONCE_BYTES = 16
_EXPIRY_BYTES = 8
_SIGNATURE_BYTES = 32


@dataclass(frozen=True)
class SignInCodes:
    """Makes and redeems codes. All processes of an installation share the ``secret``; each code works once.

    ``api_key``: what a code is exchanged for. None makes a key of its own, whose former secret then stops working:
    secrets are stored as hashes, so that no existing key can be handed out.
    """

    store: ApiKeyStore
    clock: Clock
    secret: str
    api_key: str | None = None

    def make(self) -> str:
        """A code that is valid for LIFETIME; letters, digits, ``-`` and ``_``."""
        expires = int((self.clock.now() + LIFETIME).timestamp())
        claim = secrets.token_bytes(_NONCE_BYTES) + expires.to_bytes(_EXPIRY_BYTES)
        return base64.urlsafe_b64encode(claim + self._sign(claim)).decode().rstrip("=")

    def redeem(self, code: str) -> str:
        """The secret of an API key. Raises InvalidApiKey when the code is forged, expired or used."""
        try:
            raw = base64.urlsafe_b64decode(code + "=" * (-len(code) % 4))
        except ValueError:
            raise _refused() from None
        claim, signature = raw[:-_SIGNATURE_BYTES], raw[-_SIGNATURE_BYTES:]
        if not hmac.compare_digest(signature, self._sign(claim)) or len(claim) != _NONCE_BYTES + _EXPIRY_BYTES:
            raise _refused()
        if int.from_bytes(claim[_NONCE_BYTES:]) < self.clock.now().timestamp() or not self._is_first_use(claim):
            raise _refused()
        return self.api_key or self._new_secret()

    def _sign(self, claim: bytes) -> bytes:
        return hmac.new(self.secret.encode(), b"studio sign-in\0" + claim, hashlib.sha256).digest()

    def _is_first_use(self, claim: bytes) -> bool:
        """Whether this call is the first to redeem the claim, among all processes."""
        mine = secrets.token_hex(16)
        return self.store.set_setting_once(f"sign_in.{claim[:_NONCE_BYTES].hex()}", mine) == mine

    def _new_secret(self) -> str:
        secret = make_secret(secrets.token_hex(6))
        facts = {"secret_sha256": digest(secret), "fingerprint": fingerprint(secret)}
        if not self.store.replace_secret(_STUDIO_KEY, **facts):
            self.store.add_key(key_id=_STUDIO_KEY, client_id="default", note="for sessions of the studio", **facts)
        return secret


def _refused() -> InvalidApiKey:
    return InvalidApiKey(
        "This sign-in link was used before, or has expired.",
        hint='Run "alphareel studio" on the server for a new one, or sign in with an API key.',
    )
