"""Prometheus metrics. They need the admin token unless ``metrics_open`` is set."""

from typing import Annotated

from fastapi import APIRouter, Depends, Header, Request, Response

from alphareel.http.auth import require_admin
from alphareel.http.context import SettingsOf, context_of
from alphareel.http.metrics import CONTENT_TYPE
from alphareel.http.openapi import errors

router = APIRouter(tags=["health"])


def _require_access(
    request: Request,
    settings: SettingsOf,
    token: Annotated[str | None, Header(alias="X-Admin-Token")] = None,
    authorization: Annotated[str, Header()] = "",
) -> None:
    """Accepts the token also as ``Authorization: Bearer``, as Prometheus sends it."""
    if not settings.access.metrics_open:
        scheme, _, bearer = authorization.partition(" ")
        require_admin(request, settings, token or (bearer.strip() if scheme.lower() == "bearer" else None))


@router.get(
    "/metrics",
    response_class=Response,
    dependencies=[Depends(_require_access)],
    responses={
        **errors(s401="No admin token, or a wrong one"),
        200: {
            "description": "In the text format of Prometheus",
            "content": {"text/plain": {"schema": {"type": "string"}}},
        },
    },
)
def get_metrics(request: Request) -> Response:
    """Requests of this process, and jobs, queue, failures, durations and webhooks from the database."""
    return Response(context_of(request).metrics.text(), media_type=CONTENT_TYPE)
