"""The studio: static pages that are one more client of the API, and the exchange of a sign-in code for a key."""

import gzip
import hashlib
from dataclasses import asdict, dataclass
from functools import cache
from importlib.resources import files
from typing import Annotated

from fastapi import APIRouter, Depends, Request, Response
from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field

from alphareel.domain.errors import InvalidApiKey, NotFound
from alphareel.http import guides
from alphareel.http.auth import client_address
from alphareel.http.context import context_of
from alphareel.http.ranges import matches_etag
from alphareel.http.request_body import body_of

router = APIRouter(include_in_schema=False)

_INDEX = "index.html"
_TYPES = {"html": "text/html", "css": "text/css", "js": "text/javascript", "svg": "image/svg+xml", "txt": "text/plain"}
_HEADERS = {
    # Everything comes from this server; blob: is for files that the user chose and has not uploaded yet.
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' blob: data:; "
        "media-src 'self' blob:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "Permissions-Policy": "camera=(self), microphone=(self), geolocation=(), payment=()",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cache-Control": "no-cache",  # asks each time, and gets 304 until the server was upgraded
    "Vary": "Accept-Encoding",
}


@dataclass(frozen=True)
class _StudioFile:
    content: bytes
    compressed: bytes
    media_type: str
    etag: str


class SignInRequest(BaseModel):
    code: str = Field(min_length=1, max_length=200)


SignInBody = Annotated[SignInRequest, Depends(body_of(SignInRequest))]


@router.get("/")
def get_index(request: Request) -> Response:
    """The studio's page."""
    return _respond(request, _INDEX)


@router.get("/docs")
def get_docs(request: Request) -> Response:
    """The same page, which shows the API reference at this address."""
    return _respond(request, _INDEX)


@router.get("/studio/guides")
def list_guides() -> JSONResponse:
    """The names and titles of the guides."""
    return JSONResponse({"guides": [asdict(guide) for guide in guides.list_guides()]}, headers=_HEADERS)


@router.get("/studio/guides/{name}")
def get_guide(name: str, request: Request) -> Response:
    """A guide as HTML, to be put into the studio's page."""
    return _send(request, _guide(name) if name in {guide.name for guide in guides.list_guides()} else None)


@router.get("/studio/{name:path}")
def get_asset(name: str, request: Request) -> Response:
    """A script, style or picture of the studio."""
    return _respond(request, name)


@router.post("/studio/sign-in")
def sign_in(request: Request, body: SignInBody) -> JSONResponse:
    """Exchange a one-time code for an API key. Raises InvalidApiKey."""
    codes = context_of(request).sign_in_codes
    if codes is None:
        raise NotFound("This server makes no sign-in links.", hint="Sign in with an API key.")
    try:
        return JSONResponse({"api_key": codes.redeem(body.code)}, headers={"Cache-Control": "no-store"})
    except InvalidApiKey:
        context_of(request).auth_failures.record_failure("key", client_address(request))
        raise


def _respond(request: Request, name: str) -> Response:
    return _send(request, _assets().get(name))


def _send(request: Request, asset: _StudioFile | None) -> Response:
    if asset is None:
        raise NotFound("There is no such page.", hint="The studio is at /.")
    headers = {**_HEADERS, "ETag": f"W/{asset.etag}"}
    if matches_etag(request.headers.get("if-none-match", ""), asset.etag):
        return Response(status_code=304, headers=headers)
    if "gzip" in request.headers.get("accept-encoding", ""):
        return Response(asset.compressed, media_type=asset.media_type, headers={**headers, "Content-Encoding": "gzip"})
    return Response(asset.content, media_type=asset.media_type, headers=headers)


@cache
def _assets() -> dict[str, _StudioFile]:
    """The studio's files by their name relative to its folder. Read once; nothing outside of it can be named."""
    folder = files("alphareel.http") / "studio"
    contents = {entry.name: entry.read_bytes() for entry in folder.iterdir() if entry.is_file()}
    contents |= {f"vendor/{entry.name}": entry.read_bytes() for entry in (folder / "vendor").iterdir()}
    return {name: _asset(name, content) for name, content in contents.items() if name.rpartition(".")[2] in _TYPES}


@cache
def _guide(name: str) -> _StudioFile | None:
    page = guides.render(name)
    return None if page is None else _asset(f"{name}.html", page.encode())


def _asset(name: str, content: bytes) -> _StudioFile:
    etag = f'"{hashlib.sha256(content).hexdigest()[:16]}"'
    compressed = gzip.compress(content, compresslevel=9, mtime=0)
    return _StudioFile(content, compressed, _TYPES[name.rpartition(".")[2]], etag)
