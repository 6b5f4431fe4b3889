"""Who asks: the key in ``X-Api-Key``, checked before anything of the body is read."""

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
    MissingAdminToken,
    MissingApiKey,
)
from alphareel.http.config import HttpConfig
from alphareel.http.context import ConfigOf, ServicesOf, context_of
from alphareel.http.errors import request_id
from alphareel.http.origins import origin_of
from alphareel.service.api_keys.admin import Operator
from alphareel.service.principal import Principal

_HEADER = APIKeyHeader(name="X-Api-Key", scheme_name="ApiKey", auto_error=False)

_LOCAL_SUFFIXES = (".localhost", ".local", ".lan", ".internal", ".home.arpa")
"""Endings of names that nobody can register, and bare names have none: no stranger can make them mean this machine."""

_ADMIN_HEADER = APIKeyHeader(name="X-Admin-Token", scheme_name="AdminToken", auto_error=False)


def _address(request: Request) -> str:
    return request.client.host if request.client else ""


_Secret = Annotated[str | None, Security(_HEADER)]


def require_key(request: Request, services: ServicesOf, secret: _Secret) -> Principal:
    """The caller by key; raises MissingApiKey, InvalidApiKey, RateLimited. Nothing of the body was read by then."""
    try:
        key = services.api_keys.authenticate(secret)
    except InvalidApiKey:
        context_of(request).auth_failures.note(
            "key", _address(request)
        )  # a right one passes: addresses are shared behind proxies
        raise
    request.state.key = key.fingerprint
    request.state.key_id = key.id
    request.state.budget = context_of(request).rate_limiter.hit_key(key, request.method)
    return Principal(key=key, request_id=request_id(request))


def allow_no_key(request: Request, services: ServicesOf, config: ConfigOf, secret: _Secret) -> Principal:
    """The caller of a legacy route: by key where one is sent or demanded, else nobody in particular."""
    if secret or config.legacy_needs_key:
        return require_key(request, services, secret)
    if _comes_from_foreign_page(request):
        raise MissingApiKey("A page of another site needs a key here.", hint="Send it as X-Api-Key.")
    if _is_dns_rebinding_risk(request, config):
        raise MissingApiKey(
            "Under this host name a key is needed here.",
            hint="Send it as X-Api-Key, or set ALPHAREEL_PUBLIC_URL to the name that clients use.",
        )
    request.state.budget = context_of(request).rate_limiter.hit_address(_address(request), request.method)
    return Principal(key=None, request_id=request_id(request), address=origin_of(_address(request)))


def require_admin(
    request: Request, config: ConfigOf, token: Annotated[str | None, Security(_ADMIN_HEADER)]
) -> Operator:
    """The operator; raises MissingAdminToken, and InvalidAdminToken also where no token is set at all.

    Raises RateLimited, before it compares, for an address that sent too many wrong ones: a person may have chosen it.
    """
    if not token:
        raise MissingAdminToken("The request carries no admin token.", hint="Send it in the header X-Admin-Token.")
    context_of(request).auth_failures.check("admin token", _address(request))
    if config.admin_token is None or not hmac.compare_digest(_digest(token), _digest(config.admin_token)):
        context_of(request).auth_failures.note("admin token", _address(request))
        raise InvalidAdminToken("Invalid admin token", hint="Send the value of ALPHAREEL_ADMIN_TOKEN of this server.")
    return Operator("admin", request_id(request))


def _digest(token: str) -> bytes:
    """Of one length, so that a comparison tells nothing about that of the token either."""
    return hashlib.sha256(token.encode("utf-8", "surrogateescape")).digest()


def _comes_from_foreign_page(request: Request) -> bool:
    """Without this any web page could use a server that its visitor can reach."""
    origin = request.headers.get("origin")
    if origin is None:
        return False
    try:
        return urlsplit(origin).netloc != request.headers.get("host")
    except ValueError:  # as for http://[::1
        return True


def _is_dns_rebinding_risk(request: Request, config: HttpConfig) -> bool:
    """Whether the caller is on a private network and the host a name that a stranger could have pointed here.

    To a page under such a name its visitor's browser would call this server the page's own; what cannot be a name
    of the stranger's is trusted, and so is the one that the operator set. From outside a stranger needs no such trick.
    """
    host = _host(request)
    if "." not in host or host.endswith(_LOCAL_SUFFIXES) or host == urlsplit(config.public_url or "").hostname:
        return False
    return not _is_address(host) and not _is_outside(_address(request))


def _host(request: Request) -> str:
    """The name in Host, without a port. Raises InvalidRequest for what can be no name (RFC 9112, 3.2)."""
    try:
        return (urlsplit(f"//{request.headers.get('host', '')}").hostname or "").rstrip(".")
    except ValueError:
        problem = FieldProblem("Host", "must be a host name or an address, and a port.")
        raise InvalidRequest(f"Host {problem.message}", details=[problem]) from None


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _is_outside(address: str) -> bool:
    return _is_address(address) and ipaddress.ip_address(address).is_global


KeyPrincipal = Annotated[Principal, Depends(require_key)]
LegacyPrincipal = Annotated[Principal, Depends(allow_no_key)]
Admin = Annotated[Operator, Depends(require_admin)]
