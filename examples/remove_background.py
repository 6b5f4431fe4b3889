"""Remove the background of one video with a running service: python remove_background.py in.mp4 out.webm.

Needs the package alphareel-client. Reads ALPHAREEL_API_KEY, ALPHAREEL_BASE_URL (http://127.0.0.1:8080 when unset) and
ALPHAREEL_TIMEOUT (seconds to wait for the job, 3600 when unset). The format follows from the target's suffix. The exit
code is 0 when the target was written and verified.
"""

import os
import sys
from pathlib import Path

from alphareel_client import ApiError, Client, ClientError

FORMATS = {
    ".webm": "webm",
    ".mov": "mov",
    ".mp4": "mp4",
    ".mkv": "ffv1",
    ".webp": "webp",
    ".gif": "gif",
    ".apng": "apng",
    ".zip": "png_sequence",
    ".png": "poster",
}


def main(source: Path, target: Path) -> None:
    """Upload, wait with a percentage on the terminal, download. The client retries what may be repeated."""
    key = os.environ.get("ALPHAREEL_API_KEY") or sys.exit("Set ALPHAREEL_API_KEY.")
    output_format = FORMATS.get(target.suffix.lower()) or sys.exit(f"{target}: use one of {', '.join(FORMATS)}.")
    if target.exists():
        sys.exit(f"{target} exists; choose another name or remove it first.")
    background = "white" if output_format == "mp4" else "transparent"  # MP4 carries no alpha
    with Client(key) as client:
        uploaded = client.upload(source, on_progress=lambda sent, total: show("upload", 100 * sent / total))
        job = client.create_job(
            uploaded["video_url"], model="human", output_format=output_format, background=background
        )
        done = client.wait_for_completion(
            job["id"],
            timeout=float(os.environ.get("ALPHAREEL_TIMEOUT", "3600")),
            on_progress=lambda percent: show("matte", percent),
        )
        client.download(done, target, on_progress=lambda got, total: show("download", 100 * got / total))
    sys.stderr.write(f"\n{target}: {target.stat().st_size} bytes\n")


def show(stage: str, percent: float) -> None:
    """One line that is written over."""
    sys.stderr.write(f"\r{stage:10}{percent:5.1f} %")


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit("usage: python remove_background.py VIDEO TARGET")
    try:
        main(Path(sys.argv[1]), Path(sys.argv[2]))
    except ApiError as error:
        sys.exit(f"\n{error.message} (code {error.code}, request {error.request_id})")
    except (ClientError, OSError) as error:  # TimeoutError is an OSError
        sys.exit(f"\n{error}")
