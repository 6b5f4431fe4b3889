"""URLs that clients send: their syntax. ``service/net/ssrf_guard.py`` decides which of them are connected to."""

import re
from typing import Any
from urllib.parse import urlsplit

from alphareel.domain.errors import InvalidRequest
from alphareel.domain.fields import Parser, text

MAX_URL_LENGTH = 4096
_GROUP = "[0-9A-Fa-f]{1,4}"
_COMPRESSED = [f"({_GROUP}:){{1,{7 - right}}}(:{_GROUP}){{1,{right}}}" for right in range(1, 7)]
_IPV6 = "|".join((f"({_GROUP}:){{7}}{_GROUP}", f"({_GROUP}:){{1,7}}:", *_COMPRESSED, f":((:{_GROUP}){{1,7}}|:)"))
_HOST = rf"([A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?|\[({_IPV6})\])"
_PORT = "(:([1-9][0-9]{0,3}|[1-5][0-9]{4}|6[0-4][0-9]{3}|65[0-4][0-9]{2}|655[0-2][0-9]|6553[0-5]))?"
HTTP_ORIGIN = f"https?://{_HOST}{_PORT}"
"""Pattern of scheme, host and port. The host is a name, IPv4, or IPv6 in hexadecimal and without a zone."""
HOST_AND_PORT = re.compile(f"{_HOST}(:[1-9][0-9]*)?")
_URL = rf"{HTTP_ORIGIN}([/?#][^\u0000-\u0020\u007f-\u00a0\s]*)?"
_text = text(MAX_URL_LENGTH)


def _http_url(value: Any) -> str:
    url = _text(value).strip()
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError:
        raise InvalidRequest("is not a URL.") from None
    if parts.scheme not in ("http", "https") or not host:
        raise InvalidRequest("must be an http or https URL.")
    if parts.username is not None or parts.password is not None:
        raise InvalidRequest("must not contain a user name or password.")
    if not HOST_AND_PORT.fullmatch(parts.netloc):
        raise InvalidRequest(
            "has an invalid host or port. Write names of other alphabets in ASCII (xn--...), IPv6 in hexadecimal."
        )
    if any(c.isspace() for c in url):
        raise InvalidRequest("must not contain spaces.")
    return url


def _source_url(value: Any) -> str:
    if isinstance(value, str) and value.startswith("/files/"):
        return _text(value)
    return _http_url(value)


def _receiver_url(value: Any) -> str:
    if value is None or value == "":
        raise InvalidRequest("is required.")
    return _http_url(value)


def _schema(pattern: str) -> dict[str, Any]:
    return {"type": "string", "maxLength": MAX_URL_LENGTH, "pattern": f"^{pattern}$"}


HTTP_URL = Parser(_http_url, _schema(f"({_URL})?"))
"""An http or https URL. The schema allows an empty one, which bodies of jobs take as absent."""
RECEIVER_URL = Parser(_receiver_url, _schema(_URL))
"""An http or https URL that a body cannot leave out."""
SOURCE_URL = Parser(_source_url, _schema(_URL))
"""An http or https URL, or the path of one of this server's own links."""
