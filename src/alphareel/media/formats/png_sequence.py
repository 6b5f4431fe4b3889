"""PNG sequence: a ZIP of lossless RGBA pictures, frame_000001.png ..., and manifest.json with their timestamps."""

import json
import zipfile
from fractions import Fraction
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from alphareel.domain.errors import BadVideo
from alphareel.imaging.frame import Frame, Plane
from alphareel.media.encoder_input import Pixels, RgbConverter
from alphareel.media.format import Format
from alphareel.media.output_file import Target, VerificationProfile
from alphareel.media.png import png_encoder
from alphareel.media.verify import Inspection

_MANIFEST = "manifest.json"
_NO_DATE = (1980, 1, 1, 0, 0, 0)  # a fixed date: the same frames give the same file


def _name(index: int) -> str:
    return f"frame_{index + 1:06d}.png"


def _inspect(path: Path, moments: tuple[Fraction, ...]) -> Inspection:
    """Reads all entries, verifies their checksums, and decodes the frames at ``moments``."""
    try:
        with zipfile.ZipFile(path) as archive:
            damaged = archive.testzip()
            if damaged is not None:
                raise BadVideo(f"{damaged} is damaged.")
            return _inspect_archive(archive, moments)
    except (zipfile.BadZipFile, KeyError, ValueError, OSError) as error:
        raise BadVideo(f"{path.name} is not a complete ZIP file: {error}.") from error


def _inspect_archive(archive: zipfile.ZipFile, moments: tuple[Fraction, ...]) -> Inspection:
    manifest = json.loads(archive.read(_MANIFEST))
    frames = manifest["frames"]
    names = set(archive.namelist())
    pictures = [_decode(archive, frame["file"]) for frame in frames[:1]]
    height, width = pictures[0].shape[:2] if pictures else (0, 0)
    return Inspection(
        frames=sum(frame["file"] in names for frame in frames),
        seconds=frames[-1]["seconds"] + frames[-1]["duration"] if frames else 0.0,
        width=width,
        height=height,
        has_alpha=bool(pictures) and pictures[0].shape[2] == 4,
        has_audio=False,
        alphas=tuple(_alpha_at(archive, frames, moment) for moment in moments),
    )


def _alpha_at(archive: zipfile.ZipFile, frames: list[dict[str, Any]], moment: Fraction) -> Plane | None:
    nearest = min(frames, key=lambda frame: abs(frame["seconds"] - moment))
    picture = _decode(archive, nearest["file"])
    return np.ascontiguousarray(picture[..., 3]) if picture.shape[2] == 4 else None


def _decode(archive: zipfile.ZipFile, name: str) -> Pixels:
    picture = cv2.imdecode(np.frombuffer(archive.read(name), np.uint8), cv2.IMREAD_UNCHANGED)
    if picture is None:
        raise BadVideo(f"{name} cannot be decoded.")
    return np.asarray(picture, np.uint8)


class _ZipEncoder:
    """A FrameEncoder that writes PNG files into a ZIP, without compression: PNG is already compressed."""

    audio = None
    verification = VerificationProfile(_inspect, alpha_error=0.0)

    def __init__(self, target: Target, path: Path) -> None:
        self._target = target
        self._to_rgb = RgbConverter(target.clip.color)
        self._encode_png = png_encoder()
        self._times: list[tuple[int, int]] = []
        self._zip = zipfile.ZipFile(path, "w", zipfile.ZIP_STORED, allowZip64=True)

    def encode(self, frame: Frame, alpha: Plane | None, duration: int) -> None:
        data = self._encode_png(self._to_rgb(frame, alpha))
        self._zip.writestr(zipfile.ZipInfo(_name(len(self._times)), _NO_DATE), data)
        self._times.append((frame.pts, duration))

    def finish(self, end: int) -> None:  # noqa: ARG002 - the frames have their durations
        self._zip.writestr(zipfile.ZipInfo(_MANIFEST, _NO_DATE), self._manifest())
        self._zip.close()

    def abort(self) -> None:
        self._zip.close()

    def _manifest(self) -> str:
        base = self._target.clip.time_base
        frames = [
            {"file": _name(n), "seconds": float(pts * base), "duration": float(length * base)}
            for n, (pts, length) in enumerate(self._times)
        ]
        manifest = {
            "width": self._target.width,
            "height": self._target.height,
            "fps": float(self._target.clip.rate),
            "alpha": "straight" if self._target.has_alpha else "none",
            "frames": frames,
        }
        return json.dumps(manifest, indent=1)


FORMAT = Format(
    name="png_sequence",
    suffix=".zip",
    mime="application/zip",
    audio=False,
    encoder=_ZipEncoder,
    bytes_per_pixel=1.0,
)
