"""Embeds: the right file of a job for each browser, and a player for browsers that show WebM without alpha."""

from functools import cache
from html import escape
from importlib.resources import files

from fastapi import APIRouter, Request, Response

from alphareel.http.auth import KeyPrincipal
from alphareel.http.context import ServicesOf
from alphareel.http.openapi import errors
from alphareel.http.routes.jobs import SerializersOf
from alphareel.http.schemas import embed as schemas
from alphareel.service.exports.embed import HEVC, POSTER, STACKED, WEBM, Embed

router = APIRouter(tags=["exports"])
player_router = APIRouter(include_in_schema=False)

_PLAYER_PATH = "/embed/player.js"
_TYPES = {
    WEBM: ('video/webm; codecs="vp9"', "Chrome, Edge, Firefox"),
    HEVC: ('video/mp4; codecs="hvc1"', "Safari"),
    STACKED: ('video/mp4; codecs="avc1.640028"', "all, with the player"),
}


@router.get(
    "/jobs/{job_id}/embed",
    responses=errors(
        s400="The job is not completed", s404="No such job, or another key's", s409="An export, or a proof"
    ),
)
def get_embed(job_id: str, principal: KeyPrincipal, services: ServicesOf, serializers: SerializersOf) -> schemas.Embed:
    """The files that show a job with its transparency in every browser, and the HTML for them.

    What is missing is exported meanwhile, unless exports have a price here.
    """
    embed = services.embeds.embed(principal, job_id)
    links = {
        name: services.files.signer.embed_link(embed.job, output.blob, name) for name, output in embed.files.items()
    }
    urls = {name: serializers.absolute(link) for name, link in links.items()}
    player = serializers.absolute_path(_PLAYER_PATH)
    first = next(iter(embed.files.values()), embed.job.output)
    assert first is not None, "a completed job has an output"
    return schemas.Embed(
        id=embed.job.id,
        job_id=embed.job.id,
        ready=not embed.missing,
        width=first.width,
        height=first.height,
        sources=[_source(name, url) for name, url in urls.items() if name != POSTER],
        poster=urls.get(POSTER),
        player=player,
        html=_html(embed, urls, player),
        missing=[
            schemas.EmbedMissing(
                format=file.format, export_id=file.export.id if file.export else None, reason=file.reason
            )
            for file in embed.missing
        ],
        expires_at=services.files.signer.embed_expiry(embed.job),
    )


def _source(name: str, url: str) -> schemas.EmbedSource:
    media_type, browsers = _TYPES[name]
    return schemas.EmbedSource(
        format=name, type=media_type, url=url, alpha="stacked" if name == STACKED else "native", browsers=browsers
    )


def _html(embed: Embed, urls: dict[str, str], player: str) -> str:
    """A video element whose source is the WebM; the player takes the other files where that has no alpha."""
    output = embed.files.get(WEBM) or embed.job.output
    size = f' width="{output.width}" height="{output.height}"' if output is not None else ""
    others = {"poster": POSTER, "data-hevc": HEVC, "data-stacked": STACKED}
    attributes = "".join(f' {name}="{escape(urls[key])}"' for name, key in others.items() if key in urls)
    source = ""
    if WEBM in urls:
        source = f"<source src=\"{escape(urls[WEBM])}\" type='{_TYPES[WEBM][0]}'>"
    return (
        f'<video class="alphareel" autoplay loop muted playsinline{size}{attributes}>{source}</video>\n'
        f'<script src="{escape(player)}" defer></script>'
    )


@player_router.get(_PLAYER_PATH)
def get_player(request: Request) -> Response:  # noqa: ARG001 - FastAPI passes it
    """The player, for pages of any site."""
    headers = {
        "Access-Control-Allow-Origin": "*",
        "Cross-Origin-Resource-Policy": "cross-origin",
        "Cache-Control": "public, max-age=86400",
        "X-Content-Type-Options": "nosniff",
    }
    return Response(_player(), media_type="text/javascript", headers=headers)


@cache
def _player() -> bytes:
    """Without its comments and indentation."""
    lines = [line.strip() for line in (files("alphareel.http") / "embed_player.js").read_text().splitlines()]
    return "\n".join(line for line in lines if line and not line.startswith("//")).encode()
