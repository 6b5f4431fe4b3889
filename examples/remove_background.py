"""Remove the background of one video with a running service: python remove_background.py in.mp4 out.webm."""

import os
import sys
from pathlib import Path

from alphareel_client import ApiError, Client


def main(source: Path, target: Path) -> None:
    """Upload, wait with a percentage on the terminal, download."""
    key = os.environ["ALPHAREEL_API_KEY"]
    with Client(key, base_url=os.environ.get("ALPHAREEL_URL", "http://127.0.0.1:8080")) as client:
        uploaded = client.upload(source, on_progress=lambda sent, total: show("upload", 100 * sent / total))
        job = client.create_job(uploaded["video_url"], model="human", output_format=target.suffix.removeprefix("."))
        done = client.wait_for_completion(job["id"], on_progress=lambda percent: show("matte", percent))
        client.download(done, target, on_progress=lambda got, total: show("download", 100 * got / total))
    sys.stderr.write(f"\n{target}: {target.stat().st_size} bytes\n")


def show(stage: str, percent: float) -> None:
    """One line that is written over."""
    sys.stderr.write(f"\r{stage:10}{percent:5.1f} %")


if __name__ == "__main__":
    try:
        main(Path(sys.argv[1]), Path(sys.argv[2]))
    except ApiError as error:
        sys.exit(f"\n{error.message} (request {error.request_id})")
