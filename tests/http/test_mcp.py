"""The tools of the Model Context Protocol, called by the protocol's own client over the real application."""

import sys
from contextlib import asynccontextmanager
from typing import Any

import anyio
import pytest

from alphareel.testing.fakes import TINY_MP4
from alphareel_client import Client

mcp = pytest.importorskip("mcp", reason="alphareel-client[mcp] is not installed")
mcp_server = pytest.importorskip("alphareel_client.mcp_server")


@pytest.fixture
def sdk(client, key):
    return Client(key, base_url="http://testserver", transport=client._transport, retries=0)


@pytest.fixture
def source(tmp_path):
    path = tmp_path / "in.mp4"
    path.write_bytes(TINY_MP4)
    return path


def call(server, tool, **arguments):
    """The answer of one tool: its structured content, or its error text."""

    async def run():
        async with mcp.Client(server) as session:
            answer = await session.call_tool(tool, arguments)
            text = answer.content[0].text if answer.content else ""
            return text if answer.is_error else answer.structured_content

    return anyio.run(run)


def names(server):
    async def run():
        async with mcp.Client(server) as session:
            return {tool.name: tool for tool in (await session.list_tools()).tools}

    return anyio.run(run)


@pytest.fixture
def local(sdk):
    return mcp_server.make_server(sdk, local_files=True)


def test_a_file_becomes_a_result_on_disk(local, source, finish_job, tmp_path):
    job = call(local, "remove_background", video=str(source), model="human", fields={"quality": "web"})
    assert (job["status"], job["model"], job["quality"]) == ("processing", "human", "web")
    finish_job(job["id"])
    assert call(local, "get_job", job_id=job["id"], wait_seconds=5)["status"] == "completed"
    target = tmp_path / "out.webm"
    assert call(local, "download_result", job_id=job["id"], target=str(target))["size"] == target.stat().st_size
    refused = call(local, "download_result", job_id=job["id"], target=str(target))
    assert "exists" in refused
    assert [item["id"] for item in call(local, "list_jobs")["items"]] == [job["id"]]


def test_a_completed_job_is_exported_corrected_and_examined(local, source, finish_job):
    job = call(local, "remove_background", video=str(source))["id"]
    steps: list[tuple[str, dict[str, Any]]] = [
        ("export_job", {"output_format": "mov"}),
        ("correct_job", {"time": 0.5, "points": [{"x": 3, "y": 3, "label": "remove"}]}),
        ("get_quality", {}),
    ]
    for tool, arguments in steps:
        answer = call(local, tool, job_id=job, wait_seconds=0, **arguments)
        assert "complete" in str(answer).lower(), "the job has no result yet"


def test_engines_are_compared(local, source):
    assert (
        call(local, "compare_engines", video=str(source), engines=["builtin"], wait_seconds=0)["status"] == "processing"
    )


def test_an_estimate_creates_nothing(local):
    assert (
        call(local, "estimate", video="https://a.example/v.mp4", model="light", fields={"source": {"seconds": 60}})[
            "credits"
        ]
        == 45
    )
    assert call(local, "list_jobs")["items"] == []


def test_a_job_is_cancelled_and_says_so(local):
    job = call(local, "remove_background", video="https://a.example/v.mp4")
    assert call(local, "cancel_job", job_id=job["id"])["error_code"] == "cancelled"
    assert call(local, "get_job", job_id=job["id"], wait_seconds=5)["status"] == "failed"


@pytest.mark.parametrize(
    ("tool", "arguments", "expected"),
    [
        ("remove_background", {"video": "https://a.example/v.mp4", "model": "huge"}, "model"),
        ("remove_background", {"video": "/nowhere/in.mp4"}, "there is no file"),
        ("get_job", {"job_id": "job_unknown"}, "Job not found"),
    ],
)
def test_errors_are_texts_to_act_on(local, tool, arguments, expected):
    assert expected in call(local, tool, **arguments)


def test_callers_on_a_network_reach_no_files(sdk, source):
    remote = mcp_server.make_server(sdk, local_files=False)
    assert "download_result" not in names(remote)
    assert "reads no files" in call(remote, "remove_background", video=str(source))


def test_tools_that_change_nothing_say_so(local):
    tools = names(local)
    assert {name for name, tool in tools.items() if tool.annotations.read_only_hint} == {
        "list_models", "estimate", "get_job", "get_quality", "list_jobs"
    }  # fmt: skip
    assert all(tool.description for tool in tools.values())


def test_the_command_speaks_the_protocol_over_standard_input_and_output():
    @asynccontextmanager
    async def started():
        parameters = mcp.StdioServerParameters(
            command=sys.executable, args=["-m", "alphareel", "mcp"],
            env={"ALPHAREEL_API_KEY": "k" * 32, "ALPHAREEL_BASE_URL": "http://127.0.0.1:9"},
        )  # fmt: skip
        async with mcp.Client(parameters) as session:
            yield session

    async def run():
        async with started() as session:
            answer = await session.call_tool("get_job", {"job_id": "job_x"})
            return answer.is_error, [tool.name for tool in (await session.list_tools()).tools]

    failed, tools = anyio.run(run)
    assert failed, "nothing listens there"
    assert "remove_background" in tools
