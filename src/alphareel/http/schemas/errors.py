"""The body of every error response."""

from pydantic import Field

from alphareel.http.schemas.fields import Schema


class ErrorDetail(Schema):
    """One field that was refused."""

    field: str
    message: str


class ErrorBody(Schema):
    code: str = Field(description="A stable code for programs; docs/api.md lists all of them.")
    message: str = Field(description="What was wrong and what to do, for people.")
    request_id: str = Field(description="The same as the header X-Request-Id.")
    hint: str | None = Field(default=None, description="What to do, where message is one of the contract's phrases.")
    details: list[ErrorDetail] | None = Field(default=None, description="Only for errors in single fields.")


class Error(Schema):
    """The body of every response that is not 200."""

    error: ErrorBody
