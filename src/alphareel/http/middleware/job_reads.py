"""Answers the request that clients send most: ``GET /v1/jobs/{job_id}``, every second or two for each job.

Finding the route and resolving its dependencies takes longer than all that they do.
"""

import re

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.types import ASGIApp, Receive, Scope, Send

from alphareel.domain.errors import AlphareelError
from alphareel.http.auth import require_key
from alphareel.http.context import AppContext
from alphareel.http.errors import handle_error
from alphareel.http.routes.jobs import present_job
from alphareel.http.serializers import Serializers

_PATH = re.compile(r"/v1/jobs/([^/]+)")


class JobReadMiddleware:
    """ASGI middleware. Does what the route does, in the same order and by the same functions.

    Requests with a query, which the route validates, go to the route.
    """

    def __init__(self, app: ASGIApp, *, context: AppContext) -> None:
        self.app = app
        self._context = context

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        is_read = scope["type"] == "http" and scope["method"] == "GET" and not scope["query_string"]
        match = _PATH.fullmatch(scope["path"]) if is_read else None
        if match is None:
            await self.app(scope, receive, send)
            return
        scope["path_params"] = {"job_id": match[1]}
        scope["route"] = self  # for the request log: there is one
        request = Request(scope, receive)
        try:
            await run_in_threadpool(require_key, request, request.headers.get("x-api-key"))
            response = present_job(request, Serializers(request, self._context.services, self._context.settings))
        except AlphareelError as error:
            response = await handle_error(request, error)
        await response(scope, receive, send)
