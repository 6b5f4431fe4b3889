"""What an operator does: makes keys, shuts them, gives them new secrets and limits. Every act leaves an audit row."""

from __future__ import annotations

import re
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from alphareel.domain.errors import FieldProblem, InvalidRequest, NotFound
from alphareel.service.api_keys.models import AdminEvent, ApiKey, AuditContext
from alphareel.service.api_keys.service import NewKey, digest, fingerprint, make_secret
from alphareel.service.billing.credits import MOST_CREDITS, Account, LedgerEntry
from alphareel.service.ports import Clock

if TYPE_CHECKING:
    from alphareel.db.api_keys import ApiKeyAdminStore, ApiKeyStore
    from alphareel.db.billing import AccountStore

LONGEST_CLIENT = 200
LONGEST_NOTE = 1000
# Control characters, and those that turn the direction of what stands beside them: a name must show as what it is.
PLAIN = r"[^\u0000-\u001f\u007f-\u009f\u200e\u200f\u2028-\u202e\u2066-\u2069]"
_LONGEST_GRACE = 90 * 24 * 3600
MAX_EVENTS = 100
KEY_LIMITS = {
    "write_per_minute": 1_000_000,
    "read_per_minute": 1_000_000,
    "max_running_jobs": 10_000,
    "max_queued_jobs": 1_000_000,
    "max_storage_bytes": 2**62,
    "max_credits_per_month": 1_000_000_000,
}
"""What can be limited for one key, and the highest value of each."""
_PLAIN_TEXT = re.compile(f"{PLAIN}*")


@dataclass(frozen=True)
class Operator:
    """Who acts: ``admin`` with the token, or ``command`` at the machine itself."""

    name: str
    request_id: str | None = None

    def act(self, action: str) -> AuditContext:
        return AuditContext(actor=self.name, action=action, request_id=self.request_id)


class AdminService:
    """The operator's desk. ``config``: the settings as they may be shown, without secrets."""

    def __init__(
        self,
        store: ApiKeyStore,
        ring: ApiKeyAdminStore,
        *,
        accounts: AccountStore,
        clock: Clock,
        config: Mapping[str, Any],
    ) -> None:
        self._store = store
        self._ring = ring
        self._accounts = accounts
        self._clock = clock
        self.config = config

    def list_keys(self) -> tuple[ApiKey, ...]:
        """Every key, oldest first."""
        return self._store.keys()

    def find_key(self, key_fingerprint: str) -> ApiKey:
        """Raises NotFound."""
        return _known(next((key for key in self.list_keys() if key.fingerprint == key_fingerprint), None))

    def list_events(self, *, limit: int) -> tuple[AdminEvent, ...]:
        """The audit, newest first; ``limit`` 1-100."""
        if not 1 <= limit <= MAX_EVENTS:
            raise _refused("limit", f"must lie between 1 and {MAX_EVENTS}.")
        return self._ring.admin_events(limit=limit)

    def create_key(self, operator: Operator, *, client_id: str, note: str = "", test: bool = False) -> NewKey:
        """A new key for a client, who may have several; ``test``: it makes test jobs only. Raises InvalidRequest."""
        key_id = uuid.uuid4().hex[:12]
        secret = make_secret(key_id, test=test)
        key = ApiKey(
            id=key_id,
            fingerprint=fingerprint(secret),
            client_id=check_text("client_id", client_id, longest=LONGEST_CLIENT),
            note=check_text("note", note, longest=LONGEST_NOTE, required=False),
            enabled=True,
            test=test,
            created_at=self._clock.now(),
        )
        made = self._ring.make_key(key, secret_sha256=digest(secret), act=operator.act("keys.create"))
        return NewKey(made, secret)

    def set_enabled(self, operator: Operator, key_fingerprint: str, *, enabled: bool) -> ApiKey:
        """Shut a key at once, or open it again. Raises NotFound."""
        act = operator.act("keys.enable" if enabled else "keys.disable")
        return _known(self._ring.set_enabled(key_fingerprint, enabled=enabled, act=act))

    def set_limits(self, operator: Operator, key_fingerprint: str, limits: Mapping[str, int | None]) -> ApiKey:
        """Limits of this key alone, by names of KEY_LIMITS: None takes the service's, 0 is none.

        Others stay as they are. Raises InvalidRequest, NotFound.
        """
        for name, value in limits.items():
            if value is not None and not 0 <= value <= KEY_LIMITS[name]:
                raise _refused(name, f"must lie between 0 and {KEY_LIMITS[name]}, or be null.")
        if not limits:
            return self.find_key(key_fingerprint)
        return _known(self._ring.set_limits(key_fingerprint, limits, act=operator.act("keys.limits")))

    def grant(self, operator: Operator, *, client_id: str, amount: float, start_charging: bool = False) -> Account:
        """Add credits, or take some with a negative number.

        ``start_charging``: also to an unlimited client, who is limited from then on. Raises InvalidRequest,
        InvalidState (that client without this word, or too few to take), NotFound (a client without a key).
        """
        client = check_text("client_id", client_id, longest=LONGEST_CLIENT)
        amount = _hundredths("credits", amount)
        return self._accounts.grant(client, amount, start_charging=start_charging, act=operator.act("credits.grant"))

    def set_balance(self, operator: Operator, *, client_id: str, balance: float | None) -> Account:
        """Replace a client's balance; None makes them unlimited. Raises InvalidRequest, NotFound."""
        client = check_text("client_id", client_id, longest=LONGEST_CLIENT)
        exact = None if balance is None else _hundredths("balance", balance)
        if balance is not None and balance < 0:
            raise _refused("balance", "must not be less than nothing.")
        return self._accounts.set_balance(client, exact, act=operator.act("credits.set"))

    def account(self, client_id: str) -> Account:
        """A client's credits; unlimited for one of whom nothing is written."""
        return self._accounts.account(check_text("client_id", client_id, longest=LONGEST_CLIENT))

    def entries(self, client_id: str, *, limit: int) -> tuple[LedgerEntry, ...]:
        """The client's ledger, newest first; ``limit`` 1-100."""
        if not 1 <= limit <= MAX_EVENTS:
            raise _refused("limit", f"must lie between 1 and {MAX_EVENTS}.")
        return self._accounts.entries(client_id, limit=limit)

    def rotate(self, operator: Operator, key_fingerprint: str, *, grace_seconds: int) -> NewKey:
        """Give a key a new secret and fingerprint; its jobs, limits and counts stay, the old secret for the grace.

        Raises InvalidRequest, NotFound.
        """
        if not 0 <= grace_seconds <= _LONGEST_GRACE:
            raise _refused("grace_seconds", f"must lie between 0 and {_LONGEST_GRACE}.")
        known = self.find_key(key_fingerprint)
        secret = make_secret(uuid.uuid4().hex[:12], test=known.test)
        key = self._ring.rotate(
            key_fingerprint,
            secret_sha256=digest(secret),
            new_fingerprint=fingerprint(secret),
            previous_until=self._clock.now() + timedelta(seconds=grace_seconds),
            act=operator.act("keys.rotate"),
        )
        return NewKey(_known(key), secret)


def check_text(field: str, value: Any, *, longest: int, required: bool = True) -> str:
    """A text an operator wrote, without the space around it. Raises InvalidRequest."""
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
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) <= MOST_CREDITS / 100:
        raise _refused(field, "must be a number of credits.")
    return round(value * 100)


def _known(key: ApiKey | None) -> ApiKey:
    if key is None:
        raise NotFound("There is no key with this fingerprint.", hint="List the keys: a rotation changes it.")
    return key


def _refused(field: str, message: str) -> InvalidRequest:
    return InvalidRequest(f"{field}: {message}", details=[FieldProblem(field, message)])
