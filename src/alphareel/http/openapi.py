"""An OpenAPI document that tells the truth about bodies which routes read by themselves."""

from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from alphareel.http.multipart import FIELD
from alphareel.http.schemas import admin, jobs, responses

_REF = "#/components/schemas/{model}"
_READ_BY_HAND: tuple[type[BaseModel], ...] = (
    jobs.JobCreate,
    jobs.JobStart,
    jobs.EstimateRequest,
    jobs.WebhookTest,
    admin.KeyCreate,
    admin.KeyChoice,
    admin.KeyRotate,
    admin.KeyLimits,
    admin.CreditGrant,
    admin.CreditBalance,
)
_FILE_TYPES = (
    "video/mp4",
    "video/quicktime",
    "video/webm",
    "video/x-msvideo",
    "image/png",
    "image/jpeg",
    "image/webp",
    "application/octet-stream",
)
_ABOUT = (
    "Removes the background of videos. Send the key as `X-Api-Key`. Every success is a 200 with a JSON object; "
    "every error has the shape `Error`. Every answer carries `X-Request-Id`."
)

Responses = dict[int | str, dict[str, Any]]


def errors(**meanings: str) -> Responses:
    """Error answers for a route or router, as ``s404='No such job'``; whatever else happens has the same shape."""
    named = {int(status.removeprefix("s")): meaning for status, meaning in meanings.items()}
    answers: Responses = {status: {"model": responses.Error, "description": text} for status, text in named.items()}
    return {**answers, "default": {"model": responses.Error, "description": "Any other error"}}


def json_body(model: type[BaseModel], *, required: bool = True) -> dict[str, Any]:
    """``openapi_extra`` of a route that reads a JSON object by itself; the model stands in ``_READ_BY_HAND``."""
    schema = {"$ref": _REF.format(model=model.__name__)}
    return {"requestBody": {"required": required, "content": {"application/json": {"schema": schema}}}}


def file_body() -> dict[str, Any]:
    """``openapi_extra`` of a route that streams one file out of a form."""
    file = {"type": "string", "contentMediaType": "application/octet-stream"}
    schema = {"type": "object", "properties": {FIELD: file}, "required": [FIELD]}
    encoding = {FIELD: {"contentType": ", ".join(_FILE_TYPES)}}
    content = {"multipart/form-data": {"schema": schema, "encoding": encoding}}
    return {"requestBody": {"required": True, "content": content}}


def links(*operations: str, **parameters: str) -> Responses:
    """Operations that an answer leads to; each parameter's value stands where its JSON pointer says."""
    values = {name: f"$response.body#/{place}" for name, place in parameters.items()}
    return {200: {"links": {name: {"operationId": name, "parameters": values} for name in operations}}}


def document(app: FastAPI) -> dict[str, Any]:
    """The document, made once."""
    if app.openapi_schema is None:
        made = get_openapi(title=app.title, version=app.version, description=_ABOUT, routes=app.routes)
        _, by_hand = models_json_schema([(model, "validation") for model in _READ_BY_HAND], ref_template=_REF)
        parts = made.setdefault("components", {}).setdefault("schemas", {})
        for name, schema in by_hand["$defs"].items():
            parts.setdefault(name, schema)
        _make_key_optional(made)
        app.openapi_schema = made
    return app.openapi_schema


def _make_key_optional(made: dict[str, Any]) -> None:
    """A key is possible on the legacy routes, not needed."""
    for path, operations in made["paths"].items():
        for operation in operations.values():
            if path.startswith("/api/") and "security" in operation:
                operation["security"].append({})
