"""Metrics for Prometheus, for whoever has the admin token, or everybody where the operator opened them."""

from typing import Annotated

from fastapi import APIRouter, Depends, Header, Request, Response

from alphareel.http.auth import require_admin
from alphareel.http.context import ConfigOf, context_of
from alphareel.http.metrics import CONTENT_TYPE
from alphareel.http.openapi import errors

router = APIRouter(tags=["health"])


def _may_read(
    request: Request,
    config: ConfigOf,
    token: Annotated[str | None, Header(alias="X-Admin-Token")] = None,
    authorization: Annotated[str, Header()] = "",
) -> None:
    """Prometheus sends a token as ``Authorization: Bearer``; both are the same here."""
    if not config.metrics_open:
        kind, _, bearer = authorization.partition(" ")
        require_admin(request, config, token or (bearer.strip() if kind.lower() == "bearer" else None))


@router.get(
    "/metrics",
    response_class=Response,
    dependencies=[Depends(_may_read)],
    responses={
        **errors(s401="No admin token, or a wrong one"),
        200: {
            "description": "In the text format of Prometheus",
            "content": {"text/plain": {"schema": {"type": "string"}}},
        },
    },
)
def get_metrics(request: Request) -> Response:
    """Requests of this process, and jobs, queue, failures, times and webhooks as the database knows them."""
    return Response(context_of(request).metrics.text(), media_type=CONTENT_TYPE)
