"""A clip behind the subject over HTTP: fetched or uploaded, repeated, and gone with its job."""

import io
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import requests

from alphareel.testing.clips import make_clip
from alphareel.testing.service import ServiceProcess, wait_for

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(900)]

KEY = {"X-Api-Key": "a key of the tests"}


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *args: Any) -> None: ...


@pytest.fixture(scope="module")
def elsewhere(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, str]]:
    """A folder, and the address at which its files are found on the network."""
    folder = tmp_path_factory.mktemp("elsewhere")
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder)))
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield folder, f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path]]:
    data = tmp_path_factory.mktemp("service") / "data"
    with ServiceProcess(data, API_KEY=KEY["X-Api-Key"], FETCH_ALLOW_CIDRS="127.0.0.0/8") as running:
        yield running.base, data


def two_colored(path: Path) -> None:
    """A loop of 0.4 s: five frames of red, five of blue."""
    with av.open(str(path), "w") as container:
        video = container.add_stream("libx264", 25, {"preset": "ultrafast"})
        video.width, video.height, video.pix_fmt = 64, 48, "yuv420p"
        for n in range(10):
            picture = np.zeros((48, 64, 3), np.uint8)
            picture[..., 0 if n < 5 else 2] = 255
            container.mux(video.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(video.encode(None))


def clips_in(data: Path) -> set[Path]:
    return {path for path in data.rglob("*.mp4") if path.is_file()}


def upload(base: str, path: Path) -> str:
    with path.open("rb") as file:
        answer = requests.post(f"{base}/v1/uploads", headers=KEY, files={"file": file}, timeout=60)
    assert answer.ok, answer.text
    return str(answer.json()["video_url"])


def run(base: str, **body: Any) -> dict[str, Any]:
    wishes = {"output_format": "mp4", "engine": "chroma", **body}
    job = requests.post(f"{base}/v1/jobs", headers=KEY, json=wishes, timeout=60).json()
    assert "id" in job, job

    def ended() -> Any:
        now = requests.get(f"{base}/v1/jobs/{job['id']}", headers=KEY, timeout=60).json()
        return now if now["status"] in ("completed", "failed") else None

    return wait_for(ended)


def corners(url: str) -> list[str]:
    """What shows in the upper left corner of each frame."""
    data = requests.get(url, timeout=60).content
    with av.open(io.BytesIO(data)) as container:
        pixels = [frame.to_ndarray(format="rgb24")[2:10, 2:10].mean(axis=(0, 1)) for frame in container.decode(video=0)]  # type: ignore[union-attr]
    return ["red" if red > 150 > blue else "blue" if blue > 150 > red else "else" for red, _, blue in pixels]


@pytest.mark.parametrize("by", ["address", "upload"])
def test_a_clip_behind_the_subject_is_repeated(tmp_path, elsewhere, service, by):
    base, data = service
    before = clips_in(data)
    folder, address = elsewhere
    two_colored(folder / "loop.mp4")
    make_clip(tmp_path / "in.mp4", frames=24, background="green")
    behind = f"{address}/loop.mp4" if by == "address" else upload(base, folder / "loop.mp4")
    job = run(base, video_url=upload(base, tmp_path / "in.mp4"), background={"type": "video", "video_url": behind})
    assert job["status"] == "completed", job["error"]
    assert job["background"]["video_url"] == behind
    assert corners(job["output_url"]) == (["red"] * 5 + ["blue"] * 5) * 2 + ["red"] * 4
    assert requests.delete(f"{base}/v1/jobs/{job['id']}", headers=KEY, timeout=60).status_code == 200
    wait_for(lambda: clips_in(data) <= before)


def test_what_is_no_clip_fails_the_job_and_says_so(tmp_path, elsewhere, service):
    base, _ = service
    folder, address = elsewhere
    (folder / "loop.mp4").write_bytes(b"text, not a video")
    make_clip(tmp_path / "in.mp4", frames=5, background="green")
    behind = {"type": "video", "video_url": f"{address}/loop.mp4"}
    job = run(base, video_url=upload(base, tmp_path / "in.mp4"), background=behind)
    assert (job["status"], job["error_code"]) == ("failed", "invalid_file_type")
    assert "background" in job["error"]
