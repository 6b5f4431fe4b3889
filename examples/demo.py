"""The whole product in one run: start the service, upload a clip over HTTP, cut it, download, look at it.

    python examples/demo.py [VIDEO]

Without VIDEO it makes a short green-screen clip. Everything is kept under ./demo-output.
"""

import contextlib
import os
import secrets
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx2
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeElapsedColumn

import alphareel
from alphareel.cli.contact_sheet import draw_sheet
from alphareel.domain.clip import Limits
from alphareel.media.reader import open_reader
from alphareel.testing import clips as testing
from alphareel_client import Client, ClientError, Job

OUTPUT = Path("demo-output")
READY_SECONDS = 180  # a busy machine needs much longer than an idle one
console = Console(highlight=False, markup=False)


@dataclass(frozen=True)
class Service:
    url: str
    api_key: str
    log: Path
    environment: dict[str, str]


@contextmanager
def running_service(folder: Path) -> Iterator[Service]:
    """`alphareel serve` on a free loopback port, with its data and its log under ``folder``."""
    port, api_key = free_port(), secrets.token_urlsafe(32)
    environment = {
        **os.environ,
        "ALPHAREEL_DATA_DIR": str(folder / "data"),
        "ALPHAREEL_HOST": "127.0.0.1",
        "ALPHAREEL_PORT": str(port),
        "ALPHAREEL_API_KEY": api_key,
    }
    service = Service(f"http://127.0.0.1:{port}", api_key, folder / "service.log", environment)
    command = [sys.executable, "-m", "alphareel", "serve"]
    with service.log.open("wb") as log:
        process = subprocess.Popen(command, env=service.environment, stdout=log, stderr=subprocess.STDOUT)
        try:
            wait_until_ready(service, process)
            yield service
        finally:
            process.terminate()
            process.wait(30)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_until_ready(service: Service, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + READY_SECONDS
    while time.monotonic() < deadline:
        if process.poll() is not None:
            sys.exit(f"The service stopped at once; its log: {service.log}")
        with contextlib.suppress(httpx2.HTTPError):
            if httpx2.get(f"{service.url}/health").json()["status"] == "healthy":
                return
        time.sleep(0.2)
    sys.exit(f"The service is not ready after {READY_SECONDS} s; its log: {service.log}")


def make_clip(path: Path) -> str:
    """A person-like shape before a green screen, with sound; the engine that suits it."""
    testing.make_clip(path, frames=100, width=1280, height=720, background="green", audio=True)
    return "chroma"


def remove_background(client: Client, source: Path, engine: str | None) -> tuple[Job, Path]:
    """Upload, create, wait, download: what every integrator does."""
    with progress_bar() as bar:
        sending = bar.add_task("upload", total=source.stat().st_size)
        upload = client.upload(source, on_progress=lambda sent, _: bar.update(sending, completed=sent))
    fields = {"model": "human", "bg_type": "transparent", "output_format": "webm"}
    job = client.create_job(upload["video_url"], **fields, **({"engine": engine} if engine else {}))
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.percentage:>3.0f}%"),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=console) as bar:
        cutting = bar.add_task("cut", total=100)
        job = client.wait_for_completion(job["id"], on_progress=lambda percent: bar.update(cutting, completed=percent))
    target = OUTPUT / f"{source.stem}-transparent.webm"
    client.download(job, target, overwrite=True)
    return job, target


def progress_bar() -> Progress:
    return Progress(TextColumn("{task.description}"), BarColumn(), DownloadColumn(), console=console)


def alpha_share(path: Path) -> tuple[int, float, float]:
    """Frames of the result and the shares of its pixels that are transparent and opaque, decoded from the file."""
    frames, clear, solid = 0, 0.0, 0.0
    with open_reader(path, Limits()) as reader:
        for frame in reader.frames(thumbnail=None):
            assert frame.alpha is not None, "the result has no alpha"
            frames += 1
            clear += float((frame.alpha < 8).mean())
            solid += float((frame.alpha > 247).mean())
    return frames, clear / frames, solid / frames


def main() -> None:
    began = time.monotonic()
    OUTPUT.mkdir(exist_ok=True)
    source, engine = (Path(sys.argv[1]), None) if len(sys.argv) > 1 else (OUTPUT / "green-screen.mp4", "")
    if engine is not None:
        engine = make_clip(source)
    facts = alphareel.probe(source)
    console.print(
        f"source    {source}: {facts.width}x{facts.height}, {facts.seconds:.1f} s, {facts.codec}", soft_wrap=True
    )
    with running_service(OUTPUT) as service:
        console.print(f"service   {service.url} (log: {service.log})", soft_wrap=True)
        job, target = remove_background(Client(service.api_key, base_url=service.url), source, engine)
        report(source, target, job)
        console.print(f"done in   {time.monotonic() - began:.1f} s")
        if sys.stdin.isatty() and sys.stdout.isatty():
            show_studio(service)


def report(source: Path, target: Path, job: Job) -> None:
    """What came out, from the file itself, and a contact sheet of it."""
    frames, clear, solid = alpha_share(target)
    sheet = OUTPUT / f"{source.stem}-sheet.png"
    draw_sheet(source, target, sheet, overwrite=True)
    console.print(f"result    {target}: {target.stat().st_size / 1e6:.2f} MB, {frames} frames", soft_wrap=True)
    console.print(f"alpha     {clear:.0%} of the pixels transparent, {solid:.0%} opaque: verified by decoding the file")
    served_by = job["engine"] or {"name": "unknown", "version": ""}
    console.print(f"engine    {served_by['name']} {served_by['version']}")
    console.print(f"sheet     {sheet}", soft_wrap=True)


def show_studio(service: Service) -> None:
    """Keep the service until the person at the terminal has looked at the result in the browser."""
    command = [sys.executable, "-m", "alphareel", "studio"]
    link = subprocess.run(command, env=service.environment, check=True, capture_output=True, text=True).stdout.strip()
    console.print(f"studio    {link}", soft_wrap=True)
    with contextlib.suppress(KeyboardInterrupt, EOFError):
        input("          Open it in a browser; press Enter to stop the service. ")


if __name__ == "__main__":
    try:
        main()
    except (alphareel.errors.AlphareelError, ClientError) as error:
        sys.exit(f"demo: {error}")
