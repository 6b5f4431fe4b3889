"""Operator actions on keys and credits. Every change is recorded in the audit log."""

from __future__ import annotations

import re
import uuid
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from alphareel.domain.errors import FieldProblem, InvalidRequest, InvalidState, NotFound
from alphareel.service.api_keys.models import AdminEvent, ApiKey, AuditContext
from alphareel.service.api_keys.service import FROM_SETTINGS, NewKey, digest, fingerprint, make_secret
from alphareel.service.billing.credits import MAX_CREDITS, Account, LedgerEntry
from alphareel.service.jobs.models import Job
from alphareel.service.ports import Clock

if TYPE_CHECKING:
    from alphareel.db.api_keys import ApiKeyAdminStore, ApiKeyStore
    from alphareel.db.billing import AccountStore

MAX_CLIENT_LENGTH = 200
MAX_NOTE_LENGTH = 1000
# No control characters, and none that change the text direction: a name must look like what it is.
PLAIN = r"[^\u0000-\u001f\u007f-\u009f\u200e\u200f\u2028-\u202e\u2066-\u2069]"
_MAX_GRACE_SECONDS = 90 * 24 * 3600
MAX_EVENTS = 100
KEY_LIMITS = {
    "write_per_minute": 1_000_000,
    "read_per_minute": 1_000_000,
    "max_running_jobs": 10_000,
    "max_queued_jobs": 1_000_000,
    "max_storage_bytes": 2**62,
    "max_credits_per_month": 1_000_000_000,
}
"""Limits that a key can have, and the highest value of each."""
_PLAIN_TEXT = re.compile(f"{PLAIN}*")


@dataclass(frozen=True)
class Operator:
    """Who acts: ``admin`` over HTTP with the token, or ``command`` on the command line."""

    name: str
    request_id: str | None = None

    def act(self, action: str) -> AuditContext:
        return AuditContext(actor=self.name, action=action, request_id=self.request_id)


class AdminService:
    """``config``: the settings that may be shown, without secrets."""

    def __init__(
        self,
        store: ApiKeyStore,
        key_admin: ApiKeyAdminStore,
        *,
        accounts: AccountStore,
        clock: Clock,
        config: Mapping[str, Any],
    ) -> None:
        self._store = store
        self._key_admin = key_admin
        self._accounts = accounts
        self._clock = clock
        self.config = config

    def list_keys(self) -> tuple[ApiKey, ...]:
        """Every key, oldest first."""
        return self._store.keys()

    def owners(self, jobs: Iterable[Job]) -> dict[str, ApiKey]:
        """The keys of these jobs by their IDs, deleted ones included."""
        return self._store.keys_by_id({job.key_id for job in jobs if job.key_id is not None})

    def find_key(self, key_fingerprint: str) -> ApiKey:
        """Raises NotFound."""
        return _known(next((key for key in self.list_keys() if key.fingerprint == key_fingerprint), None))

    def list_events(self, *, limit: int) -> tuple[AdminEvent, ...]:
        """The audit log, newest first; ``limit`` 1-100."""
        if not 1 <= limit <= MAX_EVENTS:
            raise _refused("limit", f"must be between 1 and {MAX_EVENTS}.")
        return self._key_admin.admin_events(limit=limit)

    def create_key(self, operator: Operator, *, client_id: str, note: str = "", test: bool = False) -> NewKey:
        """Create a key for a client, who may have several; a ``test`` key creates test jobs only.

        Raises InvalidRequest.
        """
        key_id = uuid.uuid4().hex[:12]
        secret = make_secret(key_id, test=test)
        key = ApiKey(
            id=key_id,
            fingerprint=fingerprint(secret),
            client_id=check_text("client_id", client_id, longest=MAX_CLIENT_LENGTH),
            note=check_text("note", note, longest=MAX_NOTE_LENGTH, required=False),
            enabled=True,
            test=test,
            created_at=self._clock.now(),
        )
        stored_key = self._key_admin.make_key(key, secret_sha256=digest(secret), act=operator.act("keys.create"))
        return NewKey(stored_key, secret)

    def set_enabled(self, operator: Operator, key_fingerprint: str, *, enabled: bool) -> ApiKey:
        """Disable a key at once, or enable it again. Raises NotFound."""
        act = operator.act("keys.enable" if enabled else "keys.disable")
        return _known(self._key_admin.set_enabled(key_fingerprint, enabled=enabled, act=act))

    def delete_key(self, operator: Operator, key_fingerprint: str) -> ApiKey:
        """Delete a key for good: its secret is erased, and its jobs continue. Raises NotFound, InvalidState."""
        if self.find_key(key_fingerprint).id == FROM_SETTINGS:
            hint = "Change or remove the setting; until then, disable the key."
            raise InvalidState("ALPHAREEL_API_KEY names this key, so the next start would create it again.", hint=hint)
        return _known(self._key_admin.delete(key_fingerprint, act=operator.act("keys.delete")))

    def set_limits(self, operator: Operator, key_fingerprint: str, limits: Mapping[str, int | None]) -> ApiKey:
        """Change the key's own limits, named as in KEY_LIMITS: None means the service's limit, 0 no limit.

        Limits that are not named stay as they are. Raises InvalidRequest, NotFound.
        """
        for name, value in limits.items():
            if value is not None and not 0 <= value <= KEY_LIMITS[name]:
                raise _refused(name, f"must be between 0 and {KEY_LIMITS[name]}, or be null.")
        if not limits:
            return self.find_key(key_fingerprint)
        return _known(self._key_admin.set_limits(key_fingerprint, limits, act=operator.act("keys.limits")))

    def grant(self, operator: Operator, *, client_id: str, amount: float, start_charging: bool = False) -> Account:
        """Add credits, or remove some with a negative amount.

        An unlimited client gets credits only with ``start_charging``, and is limited from then on. Raises
        InvalidRequest, InvalidState (an unlimited client, or too few credits), NotFound (a client without a key).
        """
        client = check_text("client_id", client_id, longest=MAX_CLIENT_LENGTH)
        amount = _hundredths("credits", amount)
        return self._accounts.grant(client, amount, start_charging=start_charging, act=operator.act("credits.grant"))

    def set_balance(self, operator: Operator, *, client_id: str, balance: float | None) -> Account:
        """Replace a client's balance; None means unlimited. Raises InvalidRequest, NotFound."""
        client = check_text("client_id", client_id, longest=MAX_CLIENT_LENGTH)
        exact = None if balance is None else _hundredths("balance", balance)
        if balance is not None and balance < 0:
            raise _refused("balance", "must not be less than nothing.")
        return self._accounts.set_balance(client, exact, act=operator.act("credits.set"))

    def account(self, client_id: str) -> Account:
        """A client's credits; a client without any record is unlimited."""
        return self._accounts.account(check_text("client_id", client_id, longest=MAX_CLIENT_LENGTH))

    def entries(self, client_id: str, *, limit: int) -> tuple[LedgerEntry, ...]:
        """The client's ledger, newest first; ``limit`` 1-100."""
        if not 1 <= limit <= MAX_EVENTS:
            raise _refused("limit", f"must be between 1 and {MAX_EVENTS}.")
        return self._accounts.entries(client_id, limit=limit)

    def rotate(self, operator: Operator, key_fingerprint: str, *, grace_seconds: int) -> NewKey:
        """Give a key a new secret and fingerprint. The old secret stays valid for ``grace_seconds``.

        Raises InvalidRequest, NotFound.
        """
        if not 0 <= grace_seconds <= _MAX_GRACE_SECONDS:
            raise _refused("grace_seconds", f"must be between 0 and {_MAX_GRACE_SECONDS}.")
        known = self.find_key(key_fingerprint)
        secret = make_secret(uuid.uuid4().hex[:12], test=known.test)
        key = self._key_admin.rotate(
            key_fingerprint,
            secret_sha256=digest(secret),
            new_fingerprint=fingerprint(secret),
            previous_until=self._clock.now() + timedelta(seconds=grace_seconds),
            act=operator.act("keys.rotate"),
        )
        return NewKey(_known(key), secret)


def check_text(field: str, value: Any, *, longest: int, required: bool = True) -> str:
    """The text without surrounding spaces. Raises InvalidRequest."""
    if not isinstance(value, str):
        raise _refused(field, "must be a text.")
    plain = value.strip()
    if required and not plain:
        raise _refused(field, "is required.")
    if len(plain) > longest or not _PLAIN_TEXT.fullmatch(plain):
        raise _refused(field, f"must have at most {longest} characters, none of them control characters.")
    return plain


def _hundredths(field: str, value: Any) -> int:
    """Credits as whole hundredths."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) <= MAX_CREDITS / 100:
        raise _refused(field, "must be a number of credits.")
    return round(value * 100)


def _known(key: ApiKey | None) -> ApiKey:
    if key is None:
        raise NotFound("There is no key with this fingerprint.", hint="List the keys: a rotation changes it.")
    return key


def _refused(field: str, message: str) -> InvalidRequest:
    return InvalidRequest(f"{field}: {message}", details=[FieldProblem(field, message)])
