"""Schemathesis hooks: valid files for uploads, and the reasons for which a well-formed request may be refused."""

import re

import schemathesis
from hypothesis import strategies as st

from alphareel.http.errors import STATUS

_NULL = r"(?s).*: must not contain null characters"

# A JSON schema cannot express these; docs/api.md describes them. All else that the schema allows must be accepted.
REASONS = {
    "invalid_request": (
        r"(output_format|outputs\.\d+\.format): (mp4|prores_hq) carries no alpha",  # they need a background
        r"(output_format|outputs\.\d+\.format): needs a transparent background",
        r"outputs\.\d+\.format: \w+ is named twice",
        r"(items\.\d+: )?output_target: is (for a job with one output|the address of one file)",  # with outputs, items
        r"(items\.\d+: )?(outputs\.\d+\.)?output_target\.headers\.\S+: is (set by the service|there twice)",
        r"(items\.\d+: )?(outputs\.\d+\.)?output_target\.url: this server does not connect to",  # private networks
        r"items: is required: a list of jobs, or video_urls",  # one of two fields
        r"bg_color: is required for a color background",  # by bg_type
        r"bg_image_url: is required for an? image background",
        r"retention_seconds: must be a whole number of seconds between 0 and",  # the server's own setting is the most
        r"metadata: must have at most \d+ bytes as JSON",
        r"engines\.\d+: \w+ cannot run here: ",  # of a proof; depends on what is installed
        r"The body names no limit",  # unknown fields are allowed, and ignored
        _NULL,  # also in fields that are otherwise ignored; the request must have one
        r"video_url: ",  # an address of our own files that is forged, expired, or another key's
    ),
    "file_too_large": (r"File too large: \d+ bytes\. The limit is",),  # of a multipart upload; the server's own setting
    "multipart_unavailable": (r"This server stores files on a disk",),
    "job_not_completed": (r"Job not completed",),  # the contract wants 400 here
    "idempotency_conflict": (r"This Idempotency-Key was used for another request",),
}


@schemathesis.hook
def before_call(_ctx, case, _kwargs):
    """A request that may wait for a minute does: let it wait for a moment."""
    wait = str((case.query or {}).get("wait"))
    if re.fullmatch(r"[0-9.]+", wait) and wait.count(".") <= 1 and 1 < float(wait) <= 60:
        case.query["wait"] = 0.1


_MP4 = b"\0\0\0\x18ftypisom"
_PNG = b"\x89PNG\r\n\x1a\n"
_after = st.binary(max_size=64)
schemathesis.openapi.media_type(
    "video/mp4", _after.map(_MP4.__add__), aliases=["video/quicktime", "video/webm", "video/x-msvideo"]
)
schemathesis.openapi.media_type("image/png", _after.map(_PNG.__add__), aliases=["image/jpeg", "image/webp"])
schemathesis.openapi.media_type("application/octet-stream", _after.map(_MP4.__add__))


@schemathesis.check
def every_error_is_an_envelope_with_a_known_code(_ctx, response, case):
    if response.status_code < 400:
        return
    error = response.json()["error"]
    statuses = {kind.code: status for kind, status in STATUS.items()}
    assert statuses.get(error["code"]) in (response.status_code, *_NAMED_BY_HTTP.get(response.status_code, ()))
    assert error["message"]
    assert error["request_id"] == response.headers["x-request-id"][0]


@schemathesis.check
def a_request_that_the_schema_allows_is_refused_for_a_known_reason_only(_ctx, response, case):
    if response.status_code not in (400, 422) or case.meta is None or not case.meta.generation.mode.is_positive:
        return
    error = response.json()["error"]
    known = REASONS.get(error["code"], ())
    assert any(re.match(reason, error["message"]) for reason in known), error
    if re.match(_NULL, error["message"]):
        assert "\\x00" in repr((case.body, case.path_parameters, case.query)), error


_NAMED_BY_HTTP = {416: (400,)}  # a range outside of a file is an invalid request with a status of its own
