"""The OpenAPI document is stable, complete and correct."""

import json
import os
from pathlib import Path
from typing import get_args

import pytest

from alphareel.domain import options
from alphareel.media.format import format_named, format_names
from alphareel.service.jobs.option_fields import FlatType
from alphareel.service.jobs.requests import JobCreate

SNAPSHOT = Path(__file__).with_name("openapi.json")


@pytest.fixture
def document(anonymous_client):
    return anonymous_client.get("/openapi.json").json()


def operations(document):
    return [
        (path, method, operation)
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
    ]


def test_document_changes_only_on_purpose(document):
    """ALPHAREEL_TEST_UPDATE=1 writes the snapshot anew; the difference then is part of the review."""
    text = json.dumps(document, indent=1, sort_keys=True) + "\n"
    if os.environ.get("ALPHAREEL_TEST_UPDATE"):
        SNAPSHOT.write_text(text)
    assert json.loads(SNAPSHOT.read_text()) == document


def test_every_reference_in_the_openapi_document_resolves(document):
    def references(value):
        if isinstance(value, dict):
            yield from [value["$ref"]] if "$ref" in value else []
            value = list(value.values())
        if isinstance(value, list):
            for inner in value:
                yield from references(inner)

    for reference in references(document):
        assert reference.removeprefix("#/components/schemas/") in document["components"]["schemas"]


def test_every_operation_declares_the_error_shape_and_a_success_with_a_schema(document):
    for path, _, operation in operations(document):
        responses = operation["responses"]
        assert responses["default"]["content"]["application/json"]["schema"]["$ref"].endswith("/Error"), path
        assert responses["200"]["content"], path
        assert "422" not in responses


def test_every_v1_operation_asks_for_the_key_and_says_what_happens_without(document):
    for path, _, operation in operations(document):
        if path.startswith("/v1"):
            schemes = {"/v1/admin": "AdminToken", "/v1/runners": "RunnerToken"}
            scheme = next((scheme for prefix, scheme in schemes.items() if path.startswith(prefix)), "ApiKey")
            assert operation["security"] == [{scheme: []}], path
            assert "401" in operation["responses"]


def test_legacy_operations_show_that_the_key_is_optional(document):
    assert document["paths"]["/api/process"]["post"]["security"] == [{"ApiKey": []}, {}]


def test_operation_ids_are_unique(document):
    ids = [operation["operationId"] for _, _, operation in operations(document)]
    assert len(set(ids)) == len(ids)


def test_upload_is_documented_as_a_form_with_a_file(document):
    body = document["paths"]["/v1/uploads"]["post"]["requestBody"]["content"]
    assert list(body["multipart/form-data"]["schema"]["properties"]) == ["file"]


def test_every_documented_request_field_is_parsed(client):
    """Each documented field, given nonsense, is refused; each documented choice is accepted."""
    for name in set(JobCreate.model_fields) - {"composition"}:
        kind = "image" if name == "bg_image_url" else "color"
        body = {"video_url": "https://a.example/v.mp4", "bg_type": kind, "bg_color": "red", name: {"nonsense": 1}}
        response = client.post("/v1/jobs", json=body)
        assert response.status_code == (200 if name == "metadata" else 400), name
    needs_alpha = {name for name in format_names() if format_named(name).alpha == "required"}
    for name, choices in (("model", options.TIERS), ("output_format", format_names())):
        for choice in choices:
            behind = "transparent" if choice in needs_alpha else "green"
            body = {"video_url": "https://a.example/v.mp4", "bg_type": behind, name: choice}
            assert client.post("/v1/jobs", json=body).status_code == 200, choice


def test_documented_background_types_are_accepted(client):
    for choice in get_args(FlatType):
        body = {
            "video_url": "https://a.example/v.mp4",
            "bg_type": choice,
            "bg_color": "#123456",
            "bg_image_url": "https://a.example/i.png",
        }
        assert client.post("/v1/jobs", json=body).status_code == 200, choice
