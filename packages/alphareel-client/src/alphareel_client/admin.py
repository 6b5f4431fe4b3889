"""``AdminClient``: keys, limits, credits and the audit log, for operators."""

from typing import Any, cast

import httpx2

from alphareel_client.config import ADMIN_TOKEN_VARIABLES, resolve_base_url, resolve_secret
from alphareel_client.transport import HttpClient, HttpSession, drop_none
from alphareel_client.types import Account, ApiKey, ApiKeyList, Ledger, NewApiKey


class AdminClient(HttpClient):
    """A client of ``/v1/admin``. Close it, or use it in a ``with`` statement.

    Parameters
    ----------
    admin_token
        The service's ALPHAREEL_ADMIN_TOKEN. None reads the variable ALPHAREEL_ADMIN_TOKEN, then
        REMOVEBGVIDEO_ADMIN_TOKEN.
    base_url
        None reads ALPHAREEL_BASE_URL, then REMOVEBGVIDEO_BASE_URL; without them http://127.0.0.1:8080.
    timeout
        Seconds a request may take without progress.
    retries
        How often a call that only reads is repeated after 429, 5xx or a lost connection.

    Raises
    ------
    ValueError
        There is no token, or it cannot be sent in a header; or base_url is not an http(s) URL.
    """

    def __init__(
        self,
        admin_token: str | None = None,
        *,
        base_url: str | None = None,
        timeout: float = 30.0,
        retries: int = 5,
        transport: httpx2.BaseTransport | None = None,
    ) -> None:
        token = resolve_secret(admin_token, "admin_token", ADMIN_TOKEN_VARIABLES)
        self.base_url = resolve_base_url(base_url)
        self._session = HttpSession(
            ("X-Admin-Token", token), base_url=self.base_url, timeout=timeout, retries=retries, transport=transport
        )

    def get_config(self) -> dict[str, Any]:
        """The version and the settings of the service, without its secrets. Raises ApiError."""
        return self._session.get("/v1/admin/config")

    def list_keys(self) -> ApiKeyList:
        """Every key with its client, state and use. Raises ApiError."""
        return cast(ApiKeyList, self._session.get("/v1/admin/keys"))

    def create_key(self, client_id: str, note: str | None = None, *, test: bool | None = None) -> NewApiKey:
        """Create a key; ``api_key`` in the result is shown this once. ``test``: its jobs compute nothing.

        Raises ApiError.
        """
        body = drop_none({"client_id": client_id, "note": note, "test": test})
        return cast(NewApiKey, self._session.post("/v1/admin/keys", body))

    def disable_key(self, key_fingerprint: str) -> ApiKey:
        """Refuse a key from now on; its running jobs continue. Raises ApiError."""
        return self._change_key("disable", key_fingerprint)

    def enable_key(self, key_fingerprint: str) -> ApiKey:
        """Accept a disabled key again. Raises ApiError."""
        return self._change_key("enable", key_fingerprint)

    def delete_key(self, key_fingerprint: str) -> None:
        """Delete a key for good; its running jobs continue. Raises ApiError."""
        self._change_key("delete", key_fingerprint)

    def rotate_key(self, key_fingerprint: str, *, grace_seconds: int | None = None) -> NewApiKey:
        """Give a key a new secret and fingerprint; the old secret works for ``grace_seconds`` more. Raises ApiError."""
        body = drop_none({"key_fingerprint": key_fingerprint, "grace_seconds": grace_seconds})
        return cast(NewApiKey, self._session.post("/v1/admin/keys/rotate", body))

    def limit_key(self, key_fingerprint: str, **limits: int | None) -> ApiKey:
        """Set limits of one key; None restores the service's limit, absent names stay as they are.

        ``limits``: read_per_minute, write_per_minute, max_queued_jobs, max_running_jobs, max_storage_bytes,
        max_credits_per_month. Raises ApiError.
        """
        body = {"key_fingerprint": key_fingerprint, **limits}
        return cast(ApiKey, self._session.post("/v1/admin/keys/limits", body, repeatable=True))

    def usage(self, *, days: int = 7, client_id: str | None = None) -> dict[str, Any]:
        """Jobs and credits for each key and day. Raises ApiError."""
        return self._session.get("/v1/admin/usage", days=days, client_id=client_id)

    def get_credits(self, client_id: str, *, limit: int | None = None) -> Ledger:
        """The balance of a client (None: unlimited) and its latest ledger entries. Raises ApiError."""
        return cast(Ledger, self._session.get("/v1/admin/credits", client_id=client_id, limit=limit))

    def grant_credits(self, client_id: str, amount: float, *, start_charging: bool | None = None) -> Account:
        """Add credits, or take some with a negative number.

        ``start_charging`` is needed for an unlimited client: its jobs are charged from then on. Raises ApiError.
        """
        body = drop_none({"client_id": client_id, "credits": amount, "start_charging": start_charging})
        return cast(Account, self._session.post("/v1/admin/credits/grant", body))

    def set_credits(self, client_id: str, balance: float | None) -> Account:
        """Replace the balance of a client; None makes the client unlimited. Raises ApiError."""
        body = {"client_id": client_id, "balance": balance}
        return cast(Account, self._session.post("/v1/admin/credits/set", body))

    def list_jobs(
        self, *, status: str | None = None, client_id: str | None = None, limit: int = 20, offset: int = 0
    ) -> dict[str, Any]:
        """Jobs of all keys, newest first, in ``items``; ``limit`` 1-100. Raises ApiError."""
        return self._session.get("/v1/admin/jobs", status=status, client_id=client_id, limit=limit, offset=offset)

    def get_job(self, job_id: str) -> dict[str, Any]:
        """A job of any key, with its ``history`` and ``webhooks``. Raises ApiError."""
        return self._session.get(f"/v1/admin/jobs/{job_id}")

    def cancel_job(self, job_id: str) -> dict[str, Any]:
        """Stop a job of any key; one that has already ended stays as it is. Raises ApiError."""
        return self._session.post(f"/v1/admin/jobs/{job_id}/cancel", repeatable=True)

    def list_events(self, *, limit: int | None = None) -> dict[str, Any]:
        """The audit log: what operators did, newest first. Raises ApiError."""
        return self._session.get("/v1/admin/events", limit=limit)

    def _change_key(self, action: str, key_fingerprint: str) -> ApiKey:
        body = {"key_fingerprint": key_fingerprint}
        return cast(ApiKey, self._session.post(f"/v1/admin/keys/{action}", body, repeatable=True))
