"""Authentication: API keys in ``X-Api-Key``, the admin token in ``X-Admin-Token``. Both precede reading the body."""

import hashlib
import hmac
import ipaddress
from typing import Annotated
from urllib.parse import urlsplit

from fastapi import Depends, Request, Security
from fastapi.security import APIKeyHeader

from alphareel.domain.errors import (
    FieldProblem,
    InvalidAdminToken,
    InvalidApiKey,
    InvalidRequest,
    InvalidRunnerToken,
    MissingAdminToken,
    MissingApiKey,
)
from alphareel.http.context import ServicesOf, SettingsOf, context_of
from alphareel.http.errors import request_id
from alphareel.http.origins import origin_of
from alphareel.http.rate_limits import READ_METHODS
from alphareel.service.api_keys.admin import Operator
from alphareel.service.jobs.models import UNFINISHED
from alphareel.service.principal import Principal
from alphareel.service.runners.models import Runner
from alphareel.service.services import Services
from alphareel.service.settings import Settings

_KEY_HEADER = APIKeyHeader(name="X-Api-Key", scheme_name="ApiKey", auto_error=False)
_RUNNER_HEADER = APIKeyHeader(name="X-Runner-Token", scheme_name="RunnerToken", auto_error=False)
_ADMIN_HEADER = APIKeyHeader(name="X-Admin-Token", scheme_name="AdminToken", auto_error=False)

_LOCAL_SUFFIXES = (".localhost", ".local", ".lan", ".internal", ".home.arpa")
"""Suffixes that nobody can register on the public Internet, so no outsider can point such a name at this server."""


def client_address(request: Request) -> str:
    """The address of the client; of the nearest untrusted proxy behind trusted ones."""
    return request.client.host if request.client else ""


_Secret = Annotated[str | None, Security(_KEY_HEADER)]


def require_key(request: Request, secret: _Secret) -> Principal:
    """Authenticate by API key and count the request. Raises MissingApiKey, InvalidApiKey, RateLimited."""
    services = context_of(request).services  # as a dependency it would take longer than the key
    try:
        key = services.api_keys.authenticate(_field_value(secret))
    except InvalidApiKey:
        # A valid key always passes: clients behind one proxy share their address.
        context_of(request).auth_failures.record_failure("key", client_address(request))
        raise
    request.state.key = key.fingerprint
    request.state.key_id = key.id
    principal = Principal(key=key, request_id=request_id(request))
    request.state.rate_limit = context_of(request).rate_limiter.hit_key(
        key,
        request.method,
        unfinished_job=_unfinished_job(request, principal, services),
        tus_upload=_tus_upload(request, principal, services),
    )
    return principal


def allow_no_key(request: Request, secret: _Secret) -> Principal:
    """The principal of a legacy route: by key if one is sent or required, otherwise anonymous."""
    settings, services = context_of(request).settings, context_of(request).services
    if secret or settings.http.legacy_needs_key or not settings.http.legacy_routes:
        return require_key(request, secret)
    if _is_cross_origin(request):
        raise MissingApiKey("Requests from pages of another site need a key.", hint="Send it as X-Api-Key.")
    if _is_dns_rebinding_risk(request, settings):
        raise MissingApiKey(
            "Requests under this host name need a key.",
            hint="Send it as X-Api-Key, or set ALPHAREEL_PUBLIC_URL to the name that clients use.",
        )
    principal = Principal(key=None, request_id=request_id(request), address=origin_of(client_address(request)))
    request.state.rate_limit = context_of(request).rate_limiter.hit_address(
        client_address(request), request.method, unfinished_job=_unfinished_job(request, principal, services)
    )
    return principal


def _unfinished_job(request: Request, principal: Principal, services: Services) -> str | None:
    """The ID of the job that the request reads, if the principal waits for it; such reads have their own budget."""
    job_id = request.path_params.get("job_id")
    if job_id is None or request.method not in READ_METHODS:
        return None
    job = request.state.job = services.jobs.find(principal, job_id)  # for the route, which need not read it again
    return job_id if job is not None and job.status in UNFINISHED else None


def _tus_upload(request: Request, principal: Principal, services: Services) -> str | None:
    """The ID of the principal's resumable upload that the request is about; such requests have their own budget."""
    tus_id = request.path_params.get("tus_id")
    return tus_id if tus_id is not None and services.tus.find(principal, tus_id) is not None else None


def require_admin(
    request: Request, settings: SettingsOf, token: Annotated[str | None, Security(_ADMIN_HEADER)]
) -> Operator:
    """Authenticate the operator. Raises MissingAdminToken, InvalidAdminToken (also when no token is configured).

    Raises RateLimited before comparing if the address sent too many wrong tokens: operators may choose weak ones.
    """
    token = _field_value(token)
    if not token:
        raise MissingAdminToken("The request has no admin token.", hint="Send it in the header X-Admin-Token.")
    context_of(request).auth_failures.check("admin token", client_address(request))
    expected = settings.access.admin_token
    if expected is None or not hmac.compare_digest(_digest(token), _digest(expected.get_secret_value())):
        context_of(request).auth_failures.record_failure("admin token", client_address(request))
        raise InvalidAdminToken("Invalid admin token", hint="Send the value of ALPHAREEL_ADMIN_TOKEN of this server.")
    return Operator("admin", request_id(request))


def require_runner(
    request: Request, services: ServicesOf, token: Annotated[str | None, Security(_RUNNER_HEADER)]
) -> Runner:
    """Authenticate a runner and count the request. Raises MissingRunnerToken, InvalidRunnerToken, RateLimited."""
    try:
        runner = services.runners.authenticate(_field_value(token))
    except InvalidRunnerToken:
        context_of(request).auth_failures.record_failure("runner token", client_address(request))
        raise
    request.state.rate_limit = context_of(request).rate_limiter.hit_runner(runner.id, request.method)
    return runner


def _field_value(header: str | None) -> str | None:
    """Without the spaces and tabs around it, which are not part of a field's value (RFC 9110, 5.5)."""
    return header if header is None else header.strip(" \t")


def _digest(token: str) -> bytes:
    """A fixed-length digest, so that the comparison does not leak the token's length."""
    return hashlib.sha256(token.encode("utf-8", "surrogateescape")).digest()


def _is_cross_origin(request: Request) -> bool:
    """Whether a page of another site sent this; it could otherwise use any server that its visitor can reach."""
    origin = request.headers.get("origin")
    if origin is None:
        return False
    try:
        return urlsplit(origin).netloc != request.headers.get("host")
    except ValueError:  # such as http://[::1
        return True


def _is_dns_rebinding_risk(request: Request, settings: Settings) -> bool:
    """Whether a client on a private network uses a host name that an outsider could have pointed at this server.

    The browser would treat a page under such a name as same-origin. Trusted are IP addresses, names that cannot be
    registered, and the host of ``public_url``. Clients with public addresses can reach this server anyway.
    """
    host = _host(request)
    if "." not in host or host.endswith(_LOCAL_SUFFIXES) or host == urlsplit(settings.http.public_url or "").hostname:
        return False
    return not _is_ip_address(host) and not _is_public(client_address(request))


def _host(request: Request) -> str:
    """The name in Host, without the port. Raises InvalidRequest for an impossible one (RFC 9112, 3.2)."""
    try:
        return (urlsplit(f"//{request.headers.get('host', '')}").hostname or "").rstrip(".")
    except ValueError:
        problem = FieldProblem("Host", "must be a host name or an address, optionally with a port.")
        raise InvalidRequest(f"Host {problem.message}", details=[problem]) from None


def _is_ip_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _is_public(address: str) -> bool:
    return _is_ip_address(address) and ipaddress.ip_address(address).is_global


KeyPrincipal = Annotated[Principal, Depends(require_key)]
LegacyPrincipal = Annotated[Principal, Depends(allow_no_key)]
Admin = Annotated[Operator, Depends(require_admin)]
RunnerOf = Annotated[Runner, Depends(require_runner)]
