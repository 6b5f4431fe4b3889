"""PNG sequence: one ZIP of frame_000001.png ... and manifest.json with their times. Pixels are lossless RGBA."""

import json
import zipfile
from fractions import Fraction
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from alphareel.domain.errors import BadVideo
from alphareel.imaging.frame import Frame, Plane
from alphareel.media.format import Format, Sink, Target
from alphareel.media.output_file import OutputFile, VerificationProfile
from alphareel.media.png import png_encoder
from alphareel.media.rgba import Pixels, RgbPictures
from alphareel.media.verify import Inspection

_MANIFEST = "manifest.json"
_NO_DATE = (1980, 1, 1, 0, 0, 0)  # the same frames make the same file


class _Frames:
    """An Encoding that streams PNG files into a ZIP; stored, since PNG is compressed already."""

    sound = None

    def __init__(self, target: Target, path: Path) -> None:
        self._target = target
        self._pixels = RgbPictures(target.clip.color)
        self._encode = png_encoder()
        self._times: list[tuple[int, int]] = []
        self._zip = zipfile.ZipFile(path, "w", zipfile.ZIP_STORED, allowZip64=True)

    def add(self, frame: Frame, alpha: Plane | None, duration: int) -> None:
        data = self._encode(self._pixels(frame, alpha))
        self._zip.writestr(zipfile.ZipInfo(_name(len(self._times)), _NO_DATE), data)
        self._times.append((frame.pts, duration))

    def end(self, tick: int) -> None:  # noqa: ARG002 - each frame has told
        self._zip.writestr(zipfile.ZipInfo(_MANIFEST, _NO_DATE), self._manifest())
        self._zip.close()

    def drop(self) -> None:
        # closing the archive would write its directory; nobody wants it
        if self._zip.fp is not None:
            self._zip.fp.close()
            self._zip.fp = None

    def _manifest(self) -> str:
        base = self._target.clip.time_base
        frames = [
            {"file": _name(n), "seconds": float(pts * base), "duration": float(length * base)}
            for n, (pts, length) in enumerate(self._times)
        ]
        facts = {
            "width": self._target.width,
            "height": self._target.height,
            "fps": float(self._target.clip.rate),
            "alpha": "straight" if self._target.has_alpha else "none",
            "frames": frames,
        }
        return json.dumps(facts, indent=1)


def _name(index: int) -> str:
    return f"frame_{index + 1:06d}.png"


def _inspect(path: Path, moments: tuple[Fraction, ...]) -> Inspection:
    """Reads every entry (the ZIP's checksums are checked) and decodes the frames at ``moments``."""
    try:
        with zipfile.ZipFile(path) as archive:
            broken = archive.testzip()
            if broken is not None:
                raise BadVideo(f"{broken} is damaged.")
            return _found(archive, moments)
    except (zipfile.BadZipFile, KeyError, ValueError, OSError) as error:
        raise BadVideo(f"{path.name} is no complete ZIP: {error}.") from error


def _found(archive: zipfile.ZipFile, moments: tuple[Fraction, ...]) -> Inspection:
    manifest = json.loads(archive.read(_MANIFEST))
    frames = manifest["frames"]
    held = set(archive.namelist())
    pictures = [_decoded(archive, frame["file"]) for frame in frames[:1]]
    height, width = pictures[0].shape[:2] if pictures else (0, 0)
    return Inspection(
        frames=sum(frame["file"] in held for frame in frames),
        seconds=frames[-1]["seconds"] + frames[-1]["duration"] if frames else 0.0,
        width=width,
        height=height,
        has_alpha=bool(pictures) and pictures[0].shape[2] == 4,
        has_audio=False,
        alphas=tuple(_alpha_at(archive, frames, moment) for moment in moments),
    )


def _alpha_at(archive: zipfile.ZipFile, frames: list[dict[str, Any]], moment: Fraction) -> Plane | None:
    nearest = min(frames, key=lambda frame: abs(frame["seconds"] - moment))
    picture = _decoded(archive, nearest["file"])
    return np.ascontiguousarray(picture[..., 3]) if picture.shape[2] == 4 else None


def _decoded(archive: zipfile.ZipFile, name: str) -> Pixels:
    picture = cv2.imdecode(np.frombuffer(archive.read(name), np.uint8), cv2.IMREAD_UNCHANGED)
    if picture is None:
        raise BadVideo(f"{name} cannot be decoded.")
    return np.asarray(picture, np.uint8)


def _open(target: Target) -> Sink:
    return OutputFile(target, _Frames, VerificationProfile(_inspect, alpha_error=0.0))


FORMAT = Format(name="png_sequence", suffix=".zip", mime="application/zip", alpha=True, audio=False, open=_open)
