"""Bodies of requests for jobs, estimates and exports: their models, and what they ask for.

A field that is absent keeps its value: that of the job that is started, or the default of a new one. Null stands
for the default of a new job.
"""

import functools
import json
from collections.abc import Callable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field, replace
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, PlainValidator, ValidationInfo

from alphareel.domain.corrections import SUBJECT_IDS
from alphareel.domain.errors import FieldProblem, InvalidRequest
from alphareel.domain.options import Background, Options
from alphareel.domain.parsing import BACKGROUND_FIELDS, OPTION_PARSERS
from alphareel.media.format import parse_options, parse_output, parse_outputs, parse_shared
from alphareel.service.jobs import estimates
from alphareel.service.jobs.models import Job
from alphareel.service.jobs.option_fields import OptionFields, OutputRequest
from alphareel.service.jobs.output_targets import FIELD, Targets, parse_changed_targets
from alphareel.service.jobs.retention import MAX_RETENTION_SECONDS
from alphareel.service.jobs.test_mode import MAX_SECONDS as MAX_TEST_SECONDS
from alphareel.service.jobs.test_mode import Scenario, ScenarioOutcome, parse_scenario
from alphareel.service.requests import parsed_by, refused, validated
from alphareel.service.urls import HTTP_URL, SOURCE_URL

MAX_METADATA_BYTES = 16 * 1024
MAX_SOURCE_FACT = 1_000_000

T = TypeVar("T")


@dataclass(frozen=True)
class JobRequest:
    """A job as a body describes it; absent fields have the stored or default value.

    ``options``: of the first output.
    """

    video_url: str = ""
    options: Options = field(default_factory=Options)
    more_options: tuple[Options, ...] = ()
    webhook_url: str | None = None
    metadata: dict[str, Any] = field(default_factory=dict)
    auto_start: bool = True
    retention_seconds: int | None = None
    test: Scenario | None = None
    keep_matte: bool = True
    layers: bool = False
    targets: Targets = field(default=(), repr=False)

    @property
    def requested(self) -> tuple[Options, ...]:
        """Options of all outputs."""
        return (self.options, *self.more_options)


class TestRequest(BaseModel):
    outcome: ScenarioOutcome
    seconds: float | None = Field(default=None, ge=0, le=MAX_TEST_SECONDS, description="Seconds until the outcome.")


class SourceFacts(BaseModel):
    """What you know about a video at a URL. For an upload, the server uses its own data instead."""

    seconds: Annotated[float, Field(gt=0, le=MAX_SOURCE_FACT)] | None = None
    width: Annotated[float, Field(gt=0, le=MAX_SOURCE_FACT)] | None = None
    height: Annotated[float, Field(gt=0, le=MAX_SOURCE_FACT)] | None = None
    frame_rate: Annotated[float, Field(gt=0, le=MAX_SOURCE_FACT)] | None = None


def _metadata(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise InvalidRequest("must be an object.")
    try:
        encoded = json.dumps(value, allow_nan=False, ensure_ascii=False)
    except (ValueError, TypeError, RecursionError):
        raise InvalidRequest("must be plain JSON.") from None
    if "\\u0000" in encoded.replace("\\\\", ""):  # \\\\ is an escaped backslash
        raise InvalidRequest("must not contain null characters.")
    size = len(encoded.encode(errors="surrogatepass"))
    if size > MAX_METADATA_BYTES:
        raise InvalidRequest(f"must have at most {MAX_METADATA_BYTES} bytes as JSON; it has {size}.")
    return value


def _source_facts(value: Any) -> estimates.SourceFacts:
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
    return estimates.SourceFacts(facts["seconds"], *size, facts["frame_rate"])


def _retention(value: Any, info: ValidationInfo) -> int:
    """The context is the server's own retention period, in seconds; None for no limit."""
    maximum = MAX_RETENTION_SECONDS if info.context is None else max(info.context, 0)
    whole = isinstance(value, int) or (isinstance(value, float) and value.is_integer())
    if isinstance(value, bool) or not whole or not 0 <= value <= maximum:
        raise refused(f"must be a whole number of seconds between 0 and {maximum}.")
    return int(value)


def _without_defaults(schema: dict[str, Any], model: type[BaseModel]) -> None:
    """At a start, an absent field keeps the job's value; a client that filled in defaults would change it."""
    if model is JobStart:
        for described in schema["properties"].values():
            described.pop("default", None)


class JobStart(OptionFields):
    """Every field is optional and replaces the job's own; unknown fields are ignored.

    Null stands for the default of a new job; `video_url` has none. `mp4` and `prores_hq` need
    a background that is not transparent, `stacked_mp4`, `matte` and `hevc_mov` one that is.
    """

    model_config = ConfigDict(json_schema_extra=_without_defaults)

    video_url: Annotated[str, parsed_by(SOURCE_URL)] | None = Field(
        default=None, description="An upload's video_url, or any http(s) address."
    )
    keep_matte: bool | None = Field(
        default=True, description="Keep the matte as long as the outputs, so that exports need no network."
    )
    layers: bool | None = Field(
        default=False, description="Give each subject a file of its own, listed by GET /v1/jobs/{id}/layers."
    )
    webhook_url: Annotated[str, parsed_by(HTTP_URL)] | None = Field(
        default=None, description="Empty is the same as absent."
    )
    metadata: Annotated[dict[str, Any], parsed_by(_metadata, dict[str, Any])] | None = Field(
        default=None, description="Your own data, returned with the job. At most 16 KiB as JSON, no null characters."
    )
    retention_seconds: (
        Annotated[
            int,
            PlainValidator(_retention, json_schema_input_type=Annotated[int, Field(ge=0, le=MAX_RETENTION_SECONDS)]),
        ]
        | None
    ) = Field(
        default=None,
        description="How long the result and the source are kept after the job ends; 0: until they are downloaded. "
        "At most the server's own retention period.",
    )
    test: Annotated[Any, parsed_by(parse_scenario, ScenarioOutcome | TestRequest)] | None = Field(
        default=None,
        description="Makes this a test job: it processes nothing, costs nothing and ends with this outcome.",
    )


class JobCreate(JobStart):
    """Unknown fields are ignored. `mp4`, `prores_hq` need a background; `stacked_mp4`, `matte` a transparent one."""

    video_url: Annotated[str, parsed_by(SOURCE_URL)] = Field(
        description="An upload's video_url, or any http(s) address."
    )
    auto_start: bool | None = Field(default=True, description="false creates a draft that waits for /start.")


class EstimateRequest(JobCreate):
    """The body of a job, and what is known about its source. `mp4` and `prores_hq` need a background, as in a job."""

    source: Annotated[Any, parsed_by(_source_facts, SourceFacts)] | None = None


class ExportRequest(OutputRequest):
    """A further output of a completed job. What it leaves out is as the job has it."""

    keep: Annotated[tuple[str, ...], parsed_by(SUBJECT_IDS)] | None = Field(
        default=None, description="Only these subjects are in the file."
    )
    drop: Annotated[tuple[str, ...], parsed_by(SUBJECT_IDS)] | None = Field(
        default=None, description="These subjects are not in the file."
    )


def parse_creation(body: Mapping[str, Any], *, retention_seconds: int | None = None) -> JobRequest:
    """Parse the body of POST /v1/jobs. ``retention_seconds``: the server's default and maximum; None for no limit.

    Raises InvalidRequest with one detail for each bad field.
    """
    request, _ = _read(JobCreate, body, JobRequest(retention_seconds=retention_seconds), (), retention_seconds)
    return request


def parse_start(body: Mapping[str, Any], job: Job, *, retention_seconds: int | None = None) -> JobRequest:
    """Parse the body of POST /v1/jobs/{id}/start.

    Absent fields keep the job's values, null ones have the default of a new job. Raises InvalidRequest.
    """
    nulls = {name for name, value in body.items() if value is None}
    if "video_url" in nulls:
        message = "must not be null: a job needs a video. Leave it out to keep the job's own."
        raise InvalidRequest(f"video_url: {message}", details=[FieldProblem("video_url", message)])
    stored = JobRequest(
        video_url=job.video_url,
        webhook_url=job.webhook_url,
        metadata=dict(job.metadata),
        retention_seconds=job.retention_seconds,
        test=None if job.test is None else Scenario(**job.test),
        keep_matte=job.keep_matte,
        layers=job.layers,
        targets=job.targets,
    )
    new = JobRequest(retention_seconds=retention_seconds)
    own = {"webhook_url", "metadata", "retention_seconds", "test", "keep_matte", "layers"}
    stored = replace(stored, **{name: getattr(new, name) for name in own & nulls})
    if nulls & {FIELD, "outputs"}:
        stored = replace(stored, targets=())
    request, _ = _read(JobStart, body, stored, _reset(job.requested, nulls), retention_seconds)
    return request


def _reset(stored: Sequence[Options], nulls: AbstractSet[str]) -> Sequence[Options]:
    """The options of a job's outputs, with the default of a new job in the fields that a start sets to null."""
    new = Options()
    several = len(stored) > 1
    fields = {"model", "composition", *OPTION_PARSERS} & nulls
    if several and "outputs" in nulls:
        stored, fields = stored[:1], fields | {"output_format"}
    elif not several:  # the formats of several outputs are those of outputs
        fields |= {"output_format"} & nulls
    values: dict[str, Any] = {name: getattr(new, name) for name in fields}
    if nulls & set(BACKGROUND_FIELDS):
        values["background"] = Background()
    return [replace(options, **values) for options in stored]


def parse_estimate(body: Mapping[str, Any]) -> tuple[JobRequest, estimates.SourceFacts]:
    """Parse the body of POST /v1/estimate: a job, and what the client knows about its source. Raises InvalidRequest."""
    request, fields = _read(EstimateRequest, body, JobRequest(), (), None)
    return request, fields.source or estimates.SourceFacts()


def parse_export(body: Mapping[str, Any], job: Job) -> Options:
    """Parse the body of POST /v1/jobs/{id}/exports: an output like those of ``outputs``. Raises InvalidRequest."""
    problems = _Problems()
    shared = replace(job.options.matting_options, quality="balanced")
    options = problems.collect(lambda: parse_output(body, shared), shared)
    _check_urls(options, "", problems)
    fields = problems.collect(lambda: validated(ExportRequest, body), None)
    problems.check()
    assert fields is not None
    if fields.keep and fields.drop:
        problems.add("drop", "cannot be combined with keep.")
        problems.check()
    return replace(options, keep=fields.keep or (), drop=fields.drop or ()) if fields.keep or fields.drop else options


def parse_mask_url(url: str) -> str:
    """The URL of the mask of a correction. Raises InvalidRequest."""
    problems = _Problems()
    parsed = problems.collect(lambda: SOURCE_URL(url), url, name="mask_url")
    problems.check()
    return parsed


class _Problems:
    """Collects the problems of a body, so that one response names all of them."""

    def __init__(self) -> None:
        self._found: list[FieldProblem] = []

    def add(self, field: str, message: str) -> None:
        self._found.append(FieldProblem(field, message))

    def collect(self, parse: Callable[[], T], default: T, *, name: str = "") -> T:
        """What ``parse`` returns; the default where it raises InvalidRequest. ``name``: of the field, if it has one."""
        try:
            return parse()
        except InvalidRequest as error:
            self._found.extend(error.details or [FieldProblem(name, str(error))])
            return default

    def check(self) -> None:
        """Raises InvalidRequest for what was found."""
        if self._found:
            details = tuple(dict.fromkeys(self._found))
            raise InvalidRequest(f"{details[0].field}: {details[0].message}", details=details)


# Those that are taken as they are; outputs and options are read together.
_OWN_FIELDS = JobCreate.model_fields.keys() - OptionFields.model_fields.keys()
BodyT = TypeVar("BodyT", bound=JobStart)


def _read(
    model: type[BodyT],
    body: Mapping[str, Any],
    stored: JobRequest,
    stored_options: Sequence[Options],
    longest_retention: int | None,
) -> tuple[JobRequest, BodyT]:
    """The job that the body describes, and the fields of the body. ``stored``: the values of fields that are absent."""
    problems = _Problems()
    options, *more_options = _requested(body, stored_options, problems)
    fields = problems.collect(lambda: validated(model, body, longest_retention), None)
    own_fields = (
        {} if fields is None else {name: getattr(fields, name) for name in fields.model_fields_set & _OWN_FIELDS}
    )
    request = replace(stored, **own_fields, options=options, more_options=tuple(more_options))
    if request.layers and not request.keep_matte:
        problems.add("layers", "needs the matte, which the job does not keep. Leave keep_matte out.")
    count, none = len(request.requested), Targets()
    targets = problems.collect(lambda: parse_changed_targets(body, count, stored.targets), none)
    problems.check()
    assert fields is not None
    return replace(request, targets=targets), fields


def _requested(body: Mapping[str, Any], stored: Sequence[Options], problems: _Problems) -> tuple[Options, ...]:
    """Options of all outputs: those in ``outputs``, or one by the fields of the body itself.

    A body that names neither ``outputs`` nor a format changes the other fields of the stored outputs.
    """
    if body.get("outputs") is not None:
        return _listed_outputs(body, stored[0] if stored else Options(), problems)
    if len(stored) > 1 and body.get("output_format") is None:
        return tuple(_options(body, options, problems) for options in stored)
    return (_options(body, stored[0] if stored else None, problems),)


def _listed_outputs(body: Mapping[str, Any], base: Options, problems: _Problems) -> tuple[Options, ...]:
    own = {name: value for name, value in body.items() if name != "output_format"}
    shared = problems.collect(lambda: parse_shared(own, replace(base, output_format="webm")), base)
    none: tuple[Options, ...] = (shared,)
    listed = problems.collect(lambda: parse_outputs(body["outputs"], shared), none, name="outputs")
    for number, options in enumerate(listed):
        _check_urls(options, f"outputs.{number}.", problems)
    _check_plate(shared, problems)
    return listed


def _options(body: Mapping[str, Any], stored: Options | None, problems: _Problems) -> Options:
    parsed = problems.collect(lambda: parse_options(body, stored=stored), stored or Options())
    _check_urls(parsed, "", problems)
    _check_plate(parsed, problems)
    return parsed


def _check_urls(options: Options, prefix: str, problems: _Problems) -> None:
    for name in ("image_url", "video_url"):
        url = getattr(options.background, name)
        if url is not None:
            problems.collect(functools.partial(SOURCE_URL, url), "", name=f"{prefix}background.{name}")


def _check_plate(options: Options, problems: _Problems) -> None:
    if options.plate is not None:
        message = "is only for the library and the command. Leave it out: the engine finds a plate in the clip."
        problems.add("plate", message)
