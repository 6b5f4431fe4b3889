"""rembg and backgroundremover, run in their own environment without alphareel.

PYTHON benchmarks/peer_rembg.py prepare FOLDER         prints which can run, as a JSON object of names and notes
PYTHON benchmarks/peer_rembg.py NAME FOLDER SOURCE TARGET

Their weights are not included. rembg runs a network that returns its input (identity.onnx in FOLDER), so its figure is
the cost of rembg around a network. backgroundremover runs its own network with random weights, which cost the same as
trained ones.
"""

import importlib
import importlib.util
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

_IDENTITY = "around an identity network: its own weights are not available offline"
_RANDOM = "its small network (u2netp) with random weights: the trained ones are not available offline"
_load: Any = importlib.import_module
_LIBRARIES: list[Any] = []  # operators are unregistered when their library is deleted


def prepare(folder: Path) -> dict[str, str]:
    ready = {}
    if importlib.util.find_spec("rembg") and importlib.util.find_spec("imageio_ffmpeg"):
        ready["rembg"] = _IDENTITY
    if importlib.util.find_spec("backgroundremover"):
        declare_operators()
        try:
            network = _load("backgroundremover.u2net.u2net").U2NETP(3, 1)
        except (ImportError, RuntimeError) as error:  # its torchvision and torch must match
            print(f"backgroundremover cannot run: {error}", file=sys.stderr)
        else:
            _load("torch").save(network.state_dict(), folder / "u2netp.pth")
            ready["backgroundremover"] = _RANDOM
    return ready


def declare_operators() -> None:
    """Make a torchvision that was compiled for another torch importable. The peers only use its transforms.

    The CPU build of torch has no matching torchvision, whose import fails because its operators are not declared.
    """
    torch = _load("torch")
    if hasattr(torch.ops.torchvision, "nms"):
        return
    library = torch.library.Library("torchvision", "DEF")
    for name in ("nms", "qnms"):
        library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    _LIBRARIES.append(library)


def rembg(folder: Path, source: str, target: str) -> None:
    """Each frame through rembg.remove, between two FFmpeg processes, as people use it for videos."""
    ffmpeg, picture, peer = _load("imageio_ffmpeg"), _load("PIL.Image"), _load("rembg")
    session = peer.new_session("u2net_custom", model_path=str(folder / "identity.onnx"))
    reader = ffmpeg.read_frames(source)
    facts = next(reader)
    width, height = facts["size"]
    command = [ffmpeg.get_ffmpeg_exe(), "-v", "error", "-y", "-f", "rawvideo", "-pix_fmt", "rgba"]
    command += ["-s", f"{width}x{height}", "-r", str(facts["fps"]), "-i", "-", "-i", source, "-map", "0:v"]
    command += ["-map", "1:a?", "-c:v", "libvpx-vp9", "-pix_fmt", "yuva420p", "-deadline", "realtime"]
    command += ["-cpu-used", "8", "-crf", "30", "-b:v", "0", "-auto-alt-ref", "0", "-f", "webm", target]
    writer: Any = subprocess.Popen(command, stdin=subprocess.PIPE)
    for pixels in reader:
        writer.stdin.write(peer.remove(picture.frombytes("RGB", (width, height), pixels), session=session).tobytes())
    writer.stdin.close()
    if writer.wait():
        sys.exit("FFmpeg failed")


def backgroundremover(_: Path, source: str, target: str) -> None:
    """Its own command for a transparent MOV."""
    declare_operators()
    sys.argv = ["backgroundremover", "-i", source, "-m", "u2netp", "-tv", "-o", target]
    _load("backgroundremover.cmd.cli").main()


if __name__ == "__mp_main__":  # one of backgroundremover's workers
    declare_operators()
if __name__ == "__main__":
    name, folder = sys.argv[1], Path(sys.argv[2])
    if name == "prepare":
        print(json.dumps(prepare(folder)))
    else:
        {"rembg": rembg, "backgroundremover": backgroundremover}[name](folder, *sys.argv[3:])
