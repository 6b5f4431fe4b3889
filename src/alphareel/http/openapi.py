"""The OpenAPI document, and helpers that describe what FastAPI cannot see in a route's signature."""

from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from alphareel.http.multipart import FIELD
from alphareel.http.schemas.errors import Error

_REF = "#/components/schemas/{model}"
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
_DESCRIPTION = (
    "Removes the background of videos. Send the key as `X-Api-Key`. Every success is a 200 with a JSON object; "
    "every error has the shape `Error`. Every response carries `X-Request-Id`."
)

Responses = dict[int | str, dict[str, Any]]

_body_models: dict[str, type[BaseModel]] = {}


def errors(**meanings: str) -> Responses:
    """Error responses of a route or router, as ``s404='No such job'``; every other error has the same shape."""
    by_status = {int(status.removeprefix("s")): meaning for status, meaning in meanings.items()}
    responses: Responses = {status: {"model": Error, "description": text} for status, text in by_status.items()}
    return {**responses, "default": {"model": Error, "description": "Any other error"}}


def json_body(model: type[BaseModel], *, required: bool = True) -> dict[str, Any]:
    """``openapi_extra`` of a route whose dependencies read a JSON object; ``document`` includes the model."""
    _body_models[model.__name__] = model
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
    """Operations that a response leads to; each parameter's value is at its JSON pointer in the body."""
    values = {name: f"$response.body#/{pointer}" for name, pointer in parameters.items()}
    return {200: {"links": {name: {"operationId": name, "parameters": values} for name in operations}}}


def document(app: FastAPI) -> dict[str, Any]:
    """The document, built on the first call."""
    if app.openapi_schema is None:
        schema = get_openapi(title=app.title, version=app.version, description=_DESCRIPTION, routes=app.routes)
        models = [_body_models[name] for name in sorted(_body_models)]
        _, definitions = models_json_schema([(model, "validation") for model in models], ref_template=_REF)
        components = schema.setdefault("components", {}).setdefault("schemas", {})
        for name, definition in definitions["$defs"].items():
            components.setdefault(name, definition)
        _make_key_optional(schema)
        app.openapi_schema = schema
    return app.openapi_schema


def _make_key_optional(schema: dict[str, Any]) -> None:
    """The legacy routes accept a key but do not require one."""
    for path, operations in schema["paths"].items():
        for operation in operations.values():
            if path.startswith("/api/") and "security" in operation:
                operation["security"].append({})
