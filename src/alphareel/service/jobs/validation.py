"""What callers write in bodies, checked: every bad field is named at once. Addresses are checked for form only."""

import functools
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar
from urllib.parse import urlsplit

from alphareel.domain.errors import FieldProblem, InvalidRequest
from alphareel.domain.fields import text
from alphareel.domain.options import Options
from alphareel.media.format import parse_options
from alphareel.service.jobs.estimates import SourceFacts
from alphareel.service.jobs.models import Job, Status
from alphareel.service.jobs.retention import MAX_RETENTION_SECONDS
from alphareel.service.jobs.test_mode import Scenario, parse_scenario

MAX_METADATA_BYTES = 16 * 1024
MAX_PAGE = 100
_LONGEST_URL = 4096
_GROUP = "[0-9A-Fa-f]{1,4}"
_SHORT = [f"({_GROUP}:){{1,{7 - right}}}(:{_GROUP}){{1,{right}}}" for right in range(1, 7)]
_IPV6 = "|".join((f"({_GROUP}:){{7}}{_GROUP}", f"({_GROUP}:){{1,7}}:", *_SHORT, f":((:{_GROUP}){{1,7}}|:)"))
HOST = rf"([A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?|\[({_IPV6})\])"
"""The pattern of a host in an address: a name, IPv4, or IPv6 in brackets, without a zone and in hexadecimal only."""
_PLACE = re.compile(f"{HOST}(:[1-9][0-9]*)?")
_EMPTY_IS_ABSENT = ("video_url", "webhook_url")  # there are clients that send every field of a form
_MOST_OF_A_FACT = 1_000_000

T = TypeVar("T")


@dataclass(frozen=True)
class CreateJob:
    video_url: str
    options: Options
    webhook_url: str | None
    metadata: dict[str, Any]
    auto_start: bool
    retention_seconds: int | None
    test: Scenario | None = None


@dataclass(frozen=True)
class Start:
    video_url: str
    options: Options
    webhook_url: str | None
    metadata: dict[str, Any]
    retention_seconds: int | None
    test: Scenario | None = None


def parse_creation(body: Mapping[str, Any], *, retention_seconds: int | None = None) -> CreateJob:
    """A body of POST /v1/jobs; ``retention_seconds`` is the server's, and the most that may be asked for (None: any).

    Raises InvalidRequest with one detail for each bad field.
    """
    form = _Form(body)
    made = _read_creation(form, retention_seconds)
    form.check()
    return made


def _read_creation(form: "_Form", retention_seconds: int | None) -> CreateJob:
    return CreateJob(
        video_url=form.read("video_url", _source_address, "", required=True),
        options=form.options(None),
        webhook_url=form.read("webhook_url", _http_address, None),
        metadata=form.read("metadata", _metadata, dict[str, Any]()),
        auto_start=form.read("auto_start", _boolean, default=True),
        retention_seconds=form.read("retention_seconds", _retention(retention_seconds), retention_seconds),
        test=form.read("test", parse_scenario, None),
    )


def parse_start(body: Mapping[str, Any], job: Job, *, retention_seconds: int | None = None) -> Start:
    """A body of POST /v1/jobs/{id}/start: what it names replaces what the job has."""
    form = _Form(body)
    made = Start(
        video_url=form.read("video_url", _source_address, job.video_url),
        options=form.options(job.options),
        webhook_url=form.read("webhook_url", _http_address, job.webhook_url),
        metadata=form.read("metadata", _metadata, dict(job.metadata)),
        retention_seconds=form.read("retention_seconds", _retention(retention_seconds), job.retention_seconds),
        test=form.read("test", parse_scenario, None if job.test is None else Scenario(**job.test)),
    )
    form.check()
    return made


def parse_estimate(body: Mapping[str, Any], *, retention_seconds: int | None = None) -> tuple[CreateJob, SourceFacts]:
    """A body of POST /v1/estimate: a job as it would be created, and what the caller knows of the clip."""
    form = _Form(body)
    facts = form.read("source", _source_facts, SourceFacts())
    made = _read_creation(form, retention_seconds)
    form.check()
    return made, facts


def parse_receiver(body: Mapping[str, Any]) -> str:
    """The address in a body of POST /v1/webhooks/test."""
    form = _Form(body)
    url = form.read("webhook_url", _http_address, "", required=True)
    form.check()
    return url


def parse_statuses(status: str | None, *, show_pending: bool) -> tuple[Status, ...] | None:
    """The states that a list filter means: waiting jobs answer to both of their names, and to what they show as."""
    if not status:
        return None
    if status not in set(Status):
        raise InvalidRequest(
            f"status must be one of {', '.join(Status)}.", details=[FieldProblem("status", "is no state of a job.")]
        )
    if status in (Status.CREATED, Status.PENDING):
        return (Status.CREATED, Status.PENDING)
    if status == Status.PROCESSING and not show_pending:
        return (Status.PROCESSING, Status.PENDING)
    return (Status(status),)


def check_page(limit: int, offset: int) -> None:
    """Raises InvalidRequest unless 1 <= limit <= 100 and offset >= 0."""
    problems = []
    if not 1 <= limit <= MAX_PAGE:
        problems.append(FieldProblem("limit", f"must lie between 1 and {MAX_PAGE}; got {limit}."))
    if not 0 <= offset < 2**31:
        problems.append(FieldProblem("offset", f"must lie between 0 and {2**31 - 1}; got {offset}."))
    if problems:
        raise InvalidRequest(f"{problems[0].field}: {problems[0].message}", details=problems)


class _Form:
    """Fields of a JSON object, every problem collected; null and absent are the same."""

    def __init__(self, body: Mapping[str, Any]) -> None:
        self._body = body
        self._problems: list[FieldProblem] = []

    def read(self, name: str, parse: Callable[[Any], T], default: T, *, required: bool = False) -> T:
        value = self._body.get(name)
        if value is None or (value == "" and name in _EMPTY_IS_ABSENT):
            if required:
                self._problems.append(FieldProblem(name, "is required."))
            return default
        return self._collect(name, lambda: parse(value), default)

    def options(self, stored: Options | None) -> Options:
        parsed = self._collect("", lambda: parse_options(self._body, stored=stored), stored or Options())
        for name in ("image_url", "video_url"):
            address = getattr(parsed.background, name)
            if address is not None:
                self._collect(f"background.{name}", functools.partial(_source_address, address), "")
        if parsed.plate is not None:
            self._problems.append(
                FieldProblem("plate", "is for the library and the command; leave it out to find one.")
            )
        return parsed

    def check(self) -> None:
        if self._problems:
            first = self._problems[0]
            raise InvalidRequest(f"{first.field}: {first.message}", details=self._problems)

    def _collect(self, name: str, parse: Callable[[], T], default: T) -> T:
        try:
            return parse()
        except InvalidRequest as error:
            self._problems.extend(error.details or [FieldProblem(name, str(error))])
            return default


def _retention(most: int | None) -> Callable[[Any], int]:
    highest = MAX_RETENTION_SECONDS if most is None else max(most, 0)

    def read(value: Any) -> int:
        whole = isinstance(value, int) or (isinstance(value, float) and value.is_integer())
        if isinstance(value, bool) or not whole or not 0 <= value <= highest:
            raise InvalidRequest(f"must be a whole number of seconds between 0 and {highest}.")
        return int(value)

    return read


def _source_facts(value: Any) -> SourceFacts:
    if not isinstance(value, dict):
        raise InvalidRequest("must be an object with seconds, width, height and frame_rate.")
    given = {name: value.get(name) for name in ("seconds", "width", "height", "frame_rate")}
    for name, number in given.items():
        if number is not None and (
            isinstance(number, bool) or not isinstance(number, int | float) or not 0 < number <= _MOST_OF_A_FACT
        ):
            raise InvalidRequest(f"{name} must be a number above 0 and up to {_MOST_OF_A_FACT}.")
    width, height = given["width"], given["height"]
    size = (None if width is None else round(width), None if height is None else round(height))
    return SourceFacts(given["seconds"], *size, given["frame_rate"])


def _boolean(value: Any) -> bool:
    if not isinstance(value, bool):
        raise InvalidRequest("must be true or false.")
    return value


def _metadata(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise InvalidRequest("must be an object.")
    try:
        written = json.dumps(value, allow_nan=False)
    except (ValueError, TypeError, RecursionError):
        raise InvalidRequest("must be plain JSON.") from None
    if "\\u0000" in written.replace("\\\\", ""):  # an escaped backslash begins no escape
        raise InvalidRequest("must not contain null characters.")
    if len(written) > MAX_METADATA_BYTES:
        raise InvalidRequest(f"must have at most {MAX_METADATA_BYTES} bytes as JSON; it has {len(written)}.")
    return value


def _http_address(value: Any) -> str:
    address = text(_LONGEST_URL)(value).strip()
    try:
        parts = urlsplit(address)
        host, _ = parts.hostname, parts.port
    except ValueError:
        raise InvalidRequest("is no URL.") from None
    if parts.scheme not in ("http", "https") or not host:
        raise InvalidRequest("must be an http or https URL.")
    if parts.username is not None or parts.password is not None:
        raise InvalidRequest("must not contain a user name or password.")
    if not _PLACE.fullmatch(parts.netloc):
        raise InvalidRequest("names a host or port that cannot be; write names of other alphabets in their ASCII form.")
    if any(c.isspace() for c in address):
        raise InvalidRequest("must not contain spaces.")
    return address


def _source_address(value: Any) -> str:
    """An http address, or the path of one of our own links without a host."""
    if isinstance(value, str) and value.startswith("/files/"):
        return text(_LONGEST_URL)(value)
    return _http_address(value)
