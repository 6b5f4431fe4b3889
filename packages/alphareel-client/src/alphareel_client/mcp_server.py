"""The service as tools of the Model Context Protocol: ``python -m alphareel_client.mcp_server``, or ``alphareel mcp``.

A client of the HTTP API like any other: base URL and key come from ``ALPHAREEL_BASE_URL`` and ``ALPHAREEL_API_KEY``.
Needs ``pip install "alphareel-client[mcp]"``.
"""

import argparse
import sys
import time as time_module  # a tool has a parameter of this name
from collections.abc import Callable, Mapping
from functools import wraps
from pathlib import Path
from typing import Annotated, Any, ParamSpec

from mcp.server import MCPServer
from mcp.server.mcpserver.exceptions import ToolError
from mcp_types import ToolAnnotations
from pydantic import Field

from alphareel_client.client import Client
from alphareel_client.errors import ClientError, JobFailed

P = ParamSpec("P")

DEFAULT_PORT = 8090
_POLL_SECONDS = 0.5
_MAX_WAIT = 600  # seconds; clients of the protocol give up on slow tools
_INSTRUCTIONS = (
    "Removes the background of videos on the user's own server. Usual order: list_models, estimate, remove_background, "
    "then get_job until its status is completed or failed, then download_result. Models: 'human' for people, "
    "'original' and 'light' for anything in front, 'pro' with text_prompt for what the words name."
)
_READS = ToolAnnotations(read_only_hint=True, open_world_hint=False)
_CREATES = ToolAnnotations(read_only_hint=False, destructive_hint=False, open_world_hint=False)
_ENDS = ToolAnnotations(read_only_hint=False, destructive_hint=True, idempotent_hint=True, open_world_hint=False)

Video = Annotated[str, Field(description="A video: an http(s) URL, a video_url of this server, or a path of a file.")]
Model = Annotated[str, Field(description="original, light, human or pro.")]
OutputFormat = Annotated[str, Field(description="webm, mov, mp4, gif, webp, png_sequence ...; see docs/formats.md.")]
JobId = Annotated[str, Field(description="The job's id, job_...")]
Fields = Annotated[
    dict[str, Any] | None,
    Field(description="More fields of POST /v1/jobs: background, composition, quality, preview_duration, engine ..."),
]
Wait = Annotated[float, Field(ge=0, le=_MAX_WAIT, description="Seconds to wait for the job to end; 0 returns at once.")]


def make_server(client: Client, *, local_files: bool) -> MCPServer:
    """The MCP server over ``client``.

    ``local_files``: tools may read videos and write results on this machine. Only for callers who could do so
    themselves, as over standard input and output; never for callers on a network.
    """
    server = MCPServer(name="alphareel", title="alphareel", instructions=_INSTRUCTIONS)
    tools = Tools(client, local_files=local_files)
    tool_hints: dict[Callable[..., dict[str, Any]], ToolAnnotations] = {
        tools.list_models: _READS,
        tools.estimate: _READS,
        tools.remove_background: _CREATES,
        tools.get_job: _READS,
        tools.compare_engines: _CREATES,
        tools.export_job: _CREATES,
        tools.get_quality: _READS,
        tools.correct_job: _CREATES,
        tools.list_jobs: _READS,
        tools.cancel_job: _ENDS,
    }
    if local_files:
        tool_hints[tools.download_result] = _CREATES
    for tool, hints in tool_hints.items():
        server.add_tool(_with_tool_errors(tool), annotations=hints)
    return server


class Tools:
    """The tools of the server. Their docstrings and parameters are what the model reads."""

    def __init__(self, client: Client, *, local_files: bool) -> None:
        self._client = client
        self._local_files = local_files

    def list_models(self) -> dict[str, Any]:
        """The models, the engine that serves each, all engines with their licenses, and the largest video."""
        return dict(self._client.models())

    def estimate(
        self, video: Video, model: Model = "original", output_format: OutputFormat = "webm", fields: Fields = None
    ) -> dict[str, Any]:
        """Credits, seconds of work and size of a job, without creating it. A file is uploaded to be measured."""
        options = {"model": model, "output_format": output_format, **(fields or {})}
        return dict(self._client.estimate(self._url_of(video), **options))

    def remove_background(
        self,
        video: Video,
        model: Model = "original",
        output_format: OutputFormat = "webm",
        text_prompt: Annotated[str | None, Field(description="What to keep, for the model pro.")] = None,
        *,
        fields: Fields = None,
        wait_seconds: Wait = 0,
    ) -> dict[str, Any]:
        """Start a job that removes the background of a video; the job. May cost credits: see estimate."""
        options = {"model": model, "output_format": output_format, "text_prompt": text_prompt, **(fields or {})}
        job = self._client.create_job(self._url_of(video), **options)
        return _wait_for_job(self._client, job["id"], wait_seconds)

    def get_job(self, job_id: JobId, wait_seconds: Wait = 0) -> dict[str, Any]:
        """A job: status, progress, and when completed its output_url, a signed link that expires."""
        return _wait_for_job(self._client, job_id, wait_seconds)

    def compare_engines(
        self,
        video: Video,
        engines: Annotated[list[str] | None, Field(description="Names of engines; null for all that run here.")] = None,
        wait_seconds: Wait = 60,
    ) -> dict[str, Any]:
        """Cut out six frames with several engines, free of charge: sheet_url is a picture of all of them."""
        proof = self._client.create_proof(self._url_of(video), engines=engines)
        return _poll(lambda: self._client.get_proof(proof["id"]), wait_seconds)

    def export_job(
        self,
        job_id: JobId,
        output_format: OutputFormat,
        fields: Annotated[dict[str, Any] | None, Field(description="quality, background, composition ...")] = None,
        wait_seconds: Wait = 60,
    ) -> dict[str, Any]:
        """Make a further file of a completed job from its kept matte, without a network; then it is in its outputs."""
        export = self._client.export(job_id, output_format, **(fields or {}))
        return _poll(
            lambda: _item(self._client.list_exports(job_id), export["id"]),
            wait_seconds,
        )

    def get_quality(self, job_id: JobId, wait_seconds: Wait = 60) -> dict[str, Any]:
        """Where a completed job's matte is doubtful: its worst moments and what to try."""
        report = _poll(lambda: dict(self._client.get_quality(job_id)), wait_seconds)
        return {name: value for name, value in report.items() if name != "strip"}

    def correct_job(
        self,
        job_id: JobId,
        time: Annotated[float, Field(ge=0, description="Seconds of the frame that is wrong.")],
        points: Annotated[
            list[dict[str, Any]] | None,
            Field(description='Clicks in pixels of the frame: {"x": 320, "y": 300, "label": "keep" or "remove"}.'),
        ] = None,
        box: Annotated[list[float] | None, Field(description="x, y, width, height of what to keep.")] = None,
        *,
        wait_seconds: Wait = 60,
    ) -> dict[str, Any]:
        """Correct one frame of a completed job; the correction follows the motion. Makes a new revision."""
        correction = self._client.correct(job_id, time=time, points=points, box=box)
        return _poll(
            lambda: _item(self._client.list_corrections(job_id), correction["id"]),
            wait_seconds,
        )

    def list_jobs(
        self,
        limit: Annotated[int, Field(ge=1, le=100)] = 20,
        status: Annotated[str | None, Field(description="processing, completed or failed; null for all.")] = None,
    ) -> dict[str, Any]:
        """The newest jobs of this API key."""
        return dict(self._client.list_jobs(limit=limit, status=status))

    def cancel_job(self, job_id: JobId) -> dict[str, Any]:
        """Stop a job. One that has already ended stays as it is."""
        return dict(self._client.cancel_job(job_id))

    def download_result(
        self, job_id: JobId, target: Annotated[str, Field(description="The file to write; must not exist.")]
    ) -> dict[str, Any]:
        """Write the result of a completed job to a file on this machine."""
        path = self._client.download(self._client.get_job(job_id), Path(target).expanduser())
        return {"path": str(path), "size": Path(path).stat().st_size}

    def _url_of(self, video: str) -> str:
        if video.startswith(("http://", "https://")):
            return video
        if not self._local_files:
            raise ToolError("video: must be an http or https URL: this server reads no files for callers on a network.")
        path = Path(video).expanduser()
        if not path.is_file():
            raise ToolError(f"video: there is no file {path}.")
        return str(self._client.upload(path)["video_url"])


def _wait_for_job(client: Client, job_id: str, seconds: float) -> dict[str, Any]:
    if seconds:
        try:
            return dict(client.wait_for_completion(job_id, timeout=seconds))
        except (TimeoutError, JobFailed):
            pass  # the job itself says which
    return dict(client.get_job(job_id))


def _poll(find: Callable[[], dict[str, Any]], seconds: float) -> dict[str, Any]:
    """What ``find`` returns, as soon as its status is completed or failed, or after ``seconds``."""
    deadline = time_module.monotonic() + seconds
    item = find()
    while item["status"] not in ("completed", "failed") and time_module.monotonic() < deadline:
        time_module.sleep(_POLL_SECONDS)
        item = find()
    return item


def _item(page: Mapping[str, Any], item_id: str) -> dict[str, Any]:
    return next(dict(item) for item in page["items"] if item["id"] == item_id)


def _with_tool_errors(tool: Callable[P, dict[str, Any]]) -> Callable[P, dict[str, Any]]:
    """Errors of the API and of files become the tool's error text, which the model can act on."""

    @wraps(tool)
    def call(*args: P.args, **kwargs: P.kwargs) -> dict[str, Any]:
        try:
            return tool(*args, **kwargs)
        except (ClientError, OSError, ValueError) as error:
            raise ToolError(str(error)) from error

    return call


def main(arguments: list[str] | None = None) -> None:
    """Serve over standard input and output, or with ``--http`` over streamable HTTP on this machine."""
    parser = argparse.ArgumentParser(prog="alphareel mcp", description=main.__doc__)
    parser.add_argument(
        "--http", action="store_true", help="serve streamable HTTP at /mcp instead of standard input and output"
    )
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on; anyone who reaches it uses your key")
    parser.add_argument("--port", type=int, default=DEFAULT_PORT)
    options = parser.parse_args(arguments)
    try:
        client = Client()
    except ValueError as error:
        sys.exit(f"alphareel mcp: {error}")
    if options.http:
        make_server(client, local_files=False).run("streamable-http", host=options.host, port=options.port)
    else:
        make_server(client, local_files=True).run("stdio")


if __name__ == "__main__":
    main()
