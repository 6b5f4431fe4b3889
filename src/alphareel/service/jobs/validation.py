"""Parses request bodies of jobs and reports every bad field at once. URLs are checked for syntax only."""

import functools
import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar
from urllib.parse import urlsplit

from alphareel.domain.corrections import subject_ids
from alphareel.domain.errors import FieldProblem, InvalidRequest
from alphareel.domain.fields import text
from alphareel.domain.options import Options
from alphareel.media.format import parse_options, parse_output, parse_outputs, parse_shared
from alphareel.service.jobs.estimates import SourceFacts
from alphareel.service.jobs.models import Job, Status
from alphareel.service.jobs.output_targets import Targets, parse_changed_targets
from alphareel.service.jobs.retention import MAX_RETENTION_SECONDS
from alphareel.service.jobs.test_mode import Scenario, parse_scenario

MAX_METADATA_BYTES = 16 * 1024
MAX_PAGE = 100
MAX_URL_LENGTH = 4096
_GROUP = "[0-9A-Fa-f]{1,4}"
_COMPRESSED = [f"({_GROUP}:){{1,{7 - right}}}(:{_GROUP}){{1,{right}}}" for right in range(1, 7)]
_IPV6 = "|".join((f"({_GROUP}:){{7}}{_GROUP}", f"({_GROUP}:){{1,7}}:", *_COMPRESSED, f":((:{_GROUP}){{1,7}}|:)"))
HOST = rf"([A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?|\[({_IPV6})\])"
"""Pattern of a URL's host: a name, IPv4, or IPv6 in brackets, in hexadecimal and without a zone."""
_HOST_AND_PORT = re.compile(f"{HOST}(:[1-9][0-9]*)?")
_EMPTY_IS_ABSENT = ("video_url", "webhook_url")  # some clients send every field of their form
MAX_SOURCE_FACT = 1_000_000

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
    more_options: tuple[Options, ...] = ()
    keep_matte: bool = True
    layers: bool = False
    targets: Targets = field(default=(), repr=False)

    @property
    def requested(self) -> tuple[Options, ...]:
        """Options of all outputs."""
        return (self.options, *self.more_options)


@dataclass(frozen=True)
class Start:
    video_url: str
    options: Options
    webhook_url: str | None
    metadata: dict[str, Any]
    retention_seconds: int | None
    test: Scenario | None = None
    more_options: tuple[Options, ...] = ()
    keep_matte: bool = True
    layers: bool = False
    targets: Targets = field(default=(), repr=False)

    @property
    def requested(self) -> tuple[Options, ...]:
        """Options of all outputs."""
        return (self.options, *self.more_options)


def parse_creation(body: Mapping[str, Any], *, retention_seconds: int | None = None) -> CreateJob:
    """Parse the body of POST /v1/jobs. ``retention_seconds``: the server's default and maximum; None for no limit.

    Raises InvalidRequest with one detail for each bad field.
    """
    form = _Form(body)
    request = _read_creation(form, retention_seconds)
    form.check()
    return request


def _read_creation(form: "_Form", retention_seconds: int | None) -> CreateJob:
    options, *more_options = form.outputs(())
    return CreateJob(
        video_url=form.read("video_url", _source_url, "", required=True),
        options=options,
        more_options=tuple(more_options),
        keep_matte=(keep_matte := form.read("keep_matte", _boolean, default=True)),
        layers=form.layers(keep_matte=keep_matte, default=False),
        webhook_url=form.read("webhook_url", _http_url, None),
        metadata=form.read("metadata", _metadata, dict[str, Any]()),
        auto_start=form.read("auto_start", _boolean, default=True),
        retention_seconds=form.read("retention_seconds", _retention(retention_seconds), retention_seconds),
        test=form.read("test", parse_scenario, None),
        targets=form.targets(1 + len(more_options)),
    )


def parse_start(body: Mapping[str, Any], job: Job, *, retention_seconds: int | None = None) -> Start:
    """Parse the body of POST /v1/jobs/{id}/start; absent fields keep the job's values. Raises InvalidRequest."""
    form = _Form(body)
    options, *more_options = form.outputs(job.requested)
    request = Start(
        video_url=form.read("video_url", _source_url, job.video_url),
        options=options,
        more_options=tuple(more_options),
        keep_matte=(keep_matte := form.read("keep_matte", _boolean, job.keep_matte)),
        layers=form.layers(keep_matte=keep_matte, default=job.layers),
        webhook_url=form.read("webhook_url", _http_url, job.webhook_url),
        metadata=form.read("metadata", _metadata, dict(job.metadata)),
        retention_seconds=form.read("retention_seconds", _retention(retention_seconds), job.retention_seconds),
        test=form.read("test", parse_scenario, None if job.test is None else Scenario(**job.test)),
        targets=form.targets(1 + len(more_options), job.targets),
    )
    form.check()
    return request


def parse_estimate(body: Mapping[str, Any], *, retention_seconds: int | None = None) -> tuple[CreateJob, SourceFacts]:
    """Parse the body of POST /v1/estimate: a job, and what the client knows about its source. Raises InvalidRequest."""
    form = _Form(body)
    facts = form.read("source", _source_facts, SourceFacts())
    request = _read_creation(form, retention_seconds)
    form.check()
    return request, facts


def parse_export(body: Mapping[str, Any], job: Job) -> Options:
    """Parse the body of POST /v1/jobs/{id}/exports: an output like those of ``outputs``. Raises InvalidRequest."""
    form = _Form(body)
    options = form.export(job.options)
    form.check()
    return options


def parse_proof(body: Mapping[str, Any]) -> tuple[str, str | None]:
    """The video URL and the prompt in the body of POST /v1/proofs. Raises InvalidRequest."""
    form = _Form(body)
    video_url = form.read("video_url", _source_url, "", required=True)
    text_prompt = form.read("text_prompt", text(2000), None)
    form.check()
    return video_url, text_prompt


def parse_mask_url(url: str) -> str:
    """The URL of the mask of a correction. Raises InvalidRequest."""
    form = _Form({"mask_url": url})
    parsed = form.read("mask_url", _source_url, "")
    form.check()
    return parsed


def parse_receiver(value: Any) -> str:
    """The URL that a test event is sent to. Raises InvalidRequest."""
    if value is None or value == "":
        raise InvalidRequest("is required.")
    return _http_url(value)


def parse_statuses(status: str | None, *, show_pending: bool) -> tuple[Status, ...] | None:
    """The statuses that a list filter selects; queued jobs match created, pending and what they are shown as."""
    if not status:
        return None
    if status not in set(Status):
        raise InvalidRequest(
            f"status must be one of {', '.join(Status)}.", details=[FieldProblem("status", "is not a job status.")]
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
        problems.append(FieldProblem("limit", f"must be between 1 and {MAX_PAGE}; got {limit}."))
    if not 0 <= offset < 2**31:
        problems.append(FieldProblem("offset", f"must be between 0 and {2**31 - 1}; got {offset}."))
    if problems:
        raise InvalidRequest(f"{problems[0].field}: {problems[0].message}", details=problems)


class _Form:
    """Reads fields of a request body and collects all problems. Null and absent are the same."""

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

    def outputs(self, stored: Sequence[Options]) -> tuple[Options, ...]:
        """Options of all outputs: those in ``outputs``, or one by the fields of the body itself.

        A body that names neither ``outputs`` nor a format changes the other fields of the stored outputs.
        """
        if self._body.get("outputs") is not None:
            return self._listed_outputs(stored[0] if stored else None)
        if len(stored) > 1 and self._body.get("output_format") is None:
            return tuple(self.options(options) for options in stored)
        return (self.options(stored[0] if stored else None),)

    def targets(self, count: int, stored: Targets = ()) -> Targets:
        """Where the outputs are sent; ``stored``: the targets of a job that is started."""
        return self._collect("", lambda: parse_changed_targets(self._body, count, stored), ())

    def _listed_outputs(self, stored: Options | None) -> tuple[Options, ...]:
        own = {name: value for name, value in self._body.items() if name != "output_format"}
        base = stored or Options()
        shared = self._collect("", lambda: parse_shared(own, replace(base, output_format="webm")), base)
        none: tuple[Options, ...] = (shared,)
        listed = self._collect("outputs", lambda: parse_outputs(self._body["outputs"], shared), none)
        for number, options in enumerate(listed):
            self._check_urls(options, f"outputs.{number}.")
        self._check_plate(shared)
        return listed

    def export(self, job_options: Options) -> Options:
        """The output that the body describes, of the matte that ``job_options`` made."""
        shared = replace(job_options.matting_options, quality="balanced")
        parsed = self._collect("", lambda: parse_output(self._body, shared), shared)
        self._check_urls(parsed, "")
        none: tuple[str, ...] = ()
        keep, drop = self.read("keep", subject_ids, none), self.read("drop", subject_ids, none)
        if keep and drop:
            self._problems.append(FieldProblem("drop", "cannot be combined with keep."))
        return replace(parsed, keep=keep, drop=drop) if keep or drop else parsed

    def layers(self, *, keep_matte: bool, default: bool) -> bool:
        """Whether each subject gets a file of its own."""
        layers = self.read("layers", _boolean, default)
        if layers and not keep_matte:
            message = "needs the matte, which the job does not keep. Leave keep_matte out."
            self._problems.append(FieldProblem("layers", message))
        return layers

    def _check_urls(self, options: Options, prefix: str) -> None:
        for name in ("image_url", "video_url"):
            url = getattr(options.background, name)
            if url is not None:
                self._collect(f"{prefix}background.{name}", functools.partial(_source_url, url), "")

    def options(self, stored: Options | None) -> Options:
        parsed = self._collect("", lambda: parse_options(self._body, stored=stored), stored or Options())
        self._check_urls(parsed, "")
        self._check_plate(parsed)
        return parsed

    def _check_plate(self, options: Options) -> None:
        if options.plate is not None:
            self._problems.append(
                FieldProblem(
                    "plate",
                    "is only for the library and the command. Leave it out: the engine finds a plate in the clip.",
                )
            )

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


def _retention(server_seconds: int | None) -> Callable[[Any], int]:
    maximum = MAX_RETENTION_SECONDS if server_seconds is None else max(server_seconds, 0)

    def read(value: Any) -> int:
        whole = isinstance(value, int) or (isinstance(value, float) and value.is_integer())
        if isinstance(value, bool) or not whole or not 0 <= value <= maximum:
            raise InvalidRequest(f"must be a whole number of seconds between 0 and {maximum}.")
        return int(value)

    return read


def _source_facts(value: Any) -> SourceFacts:
    if not isinstance(value, dict):
        raise InvalidRequest("must be an object with seconds, width, height and frame_rate.")
    facts = {name: value.get(name) for name in ("seconds", "width", "height", "frame_rate")}
    for name, number in facts.items():
        if number is not None and (
            isinstance(number, bool) or not isinstance(number, int | float) or not 0 < number <= MAX_SOURCE_FACT
        ):
            raise InvalidRequest(f"{name} must be a number greater than 0 and at most {MAX_SOURCE_FACT}.")
    width, height = facts["width"], facts["height"]
    size = (None if width is None else round(width), None if height is None else round(height))
    return SourceFacts(facts["seconds"], *size, facts["frame_rate"])


def _boolean(value: Any) -> bool:
    if not isinstance(value, bool):
        raise InvalidRequest("must be true or false.")
    return value


def _metadata(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise InvalidRequest("must be an object.")
    try:
        encoded = json.dumps(value, allow_nan=False)
    except (ValueError, TypeError, RecursionError):
        raise InvalidRequest("must be plain JSON.") from None
    if "\\u0000" in encoded.replace("\\\\", ""):  # \\\\ is an escaped backslash
        raise InvalidRequest("must not contain null characters.")
    if len(encoded) > MAX_METADATA_BYTES:
        raise InvalidRequest(f"must have at most {MAX_METADATA_BYTES} bytes as JSON; it has {len(encoded)}.")
    return value


def _http_url(value: Any) -> str:
    url = text(MAX_URL_LENGTH)(value).strip()
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError:
        raise InvalidRequest("is not a URL.") from None
    if parts.scheme not in ("http", "https") or not host:
        raise InvalidRequest("must be an http or https URL.")
    if parts.username is not None or parts.password is not None:
        raise InvalidRequest("must not contain a user name or password.")
    if not _HOST_AND_PORT.fullmatch(parts.netloc):
        raise InvalidRequest(
            "has an invalid host or port. Write names of other alphabets in ASCII (xn--...), IPv6 in hexadecimal."
        )
    if any(c.isspace() for c in url):
        raise InvalidRequest("must not contain spaces.")
    return url


def _source_url(value: Any) -> str:
    """An http URL, or the path of one of this server's own links."""
    if isinstance(value, str) and value.startswith("/files/"):
        return text(MAX_URL_LENGTH)(value)
    return _http_url(value)
