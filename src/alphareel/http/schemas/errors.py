"""The body of every error response."""

from pydantic import Field

from alphareel.http.schemas.base import Schema


class ErrorDetail(Schema):
    """One field that cannot be accepted."""

    field: str
    message: str


class ErrorBody(Schema):
    code: str = Field(description="Stable, for programs; docs/api.md lists every one.")
    message: str = Field(description="What was wrong and what to do, for people.")
    request_id: str = Field(description="The same as the header X-Request-Id.")
    details: list[ErrorDetail] | None = Field(default=None, description="Only where single fields are at fault.")


class Error(Schema):
    """The body of every answer that is not 200."""

    error: ErrorBody
