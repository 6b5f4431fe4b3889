"""Where the base URL and the secrets come from: the argument, then the environment. Secrets are never printed."""

import os
from collections.abc import Sequence
from urllib.parse import urlsplit

DEFAULT_BASE_URL = "http://127.0.0.1:8080"
BASE_URL_VARIABLES = ("ALPHAREEL_BASE_URL", "REMOVEBGVIDEO_BASE_URL")
API_KEY_VARIABLES = ("ALPHAREEL_API_KEY", "REMOVEBGVIDEO_API_KEY")
ADMIN_TOKEN_VARIABLES = ("ALPHAREEL_ADMIN_TOKEN", "REMOVEBGVIDEO_ADMIN_TOKEN")


def resolve_base_url(base_url: str | None) -> str:
    """The argument, else the first variable that is set, else the service on this machine; no slash at the end.

    Raises ValueError for anything but an http or https URL.
    """
    url = (_from_environment(BASE_URL_VARIABLES) if base_url is None else base_url).strip() or DEFAULT_BASE_URL
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError("base_url must be an http or https URL, such as http://127.0.0.1:8080")
    return url.rstrip("/")


def resolve_secret(secret: str | None, name: str, variables: Sequence[str]) -> str:
    """The argument, else the first variable that is set, without whitespace around it.

    Raises ValueError, which never contains the secret, when it is missing or cannot be sent in an HTTP header.
    """
    value = (_from_environment(variables) if secret is None else secret).strip()
    if not value:
        raise ValueError(f"{name} is required: pass it, or set {variables[0]}")
    if not (value.isascii() and value.isprintable()):
        raise ValueError(f"{name} contains a control or non-ASCII character: check how it was copied or read")
    return value


def without_userinfo(url: str) -> str:
    """The URL as it may be shown: no user name, password or query."""
    parts = urlsplit(url)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2], query="", fragment="").geturl()


def _from_environment(variables: Sequence[str]) -> str:
    return next((value for name in variables if (value := os.environ.get(name, "").strip())), "")
