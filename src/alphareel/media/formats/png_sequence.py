"""PNG sequence: a ZIP of lossless RGBA pictures, frame_000001.png ..., and manifest.json with their timestamps."""

import json
import shutil
import zipfile
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from alphareel.domain.errors import BadVideo
from alphareel.imaging.frame import Frame, Plane
from alphareel.media.atomic_file import AtomicFile
from alphareel.media.encoder_input import Pixels, RgbConverter
from alphareel.media.ffmpeg_errors import translating_write_errors
from alphareel.media.format import Format
from alphareel.media.output_file import Target, VerificationProfile, expected_output
from alphareel.media.png import png_encoder
from alphareel.media.splice import Part
from alphareel.media.verify import Inspection, Verified, verify

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


class _ZipSplicer:
    """A Splicer: each frame is a file of its own."""

    def groups(self, path: Path) -> tuple[int, ...]:
        return tuple(range(_inspect(path, ()).frames + 1))

    def splice(self, target: Target, previous: Path, parts: Sequence[Part], *, seconds: float) -> Verified:
        output = AtomicFile(target.path, overwrite=target.overwrite)
        try:
            with translating_write_errors(target.path):
                if parts:
                    _copy(previous, output.path, parts)
                else:
                    shutil.copyfile(previous, output.path)
            inspection = _inspect(previous, ())
            expectation = expected_output(
                target,
                _ZipEncoder.verification,
                frames=inspection.frames,
                seconds=seconds,
                has_audio=False,
                samples=(),
            )
            verified = verify(output.path, replace(expectation, alpha_error=0.0))
            output.publish()
            return verified
        finally:
            output.discard()


def _copy(previous: Path, path: Path, parts: Sequence[Part]) -> None:
    """Copy all entries in their order, those of replaced frames from the parts."""
    with ExitStack() as stack:
        archive = stack.enter_context(zipfile.ZipFile(previous))
        new: dict[str, tuple[zipfile.ZipFile, str]] = {}
        for part in parts:
            source = stack.enter_context(zipfile.ZipFile(part.path))
            new |= {_name(part.place.first + n): (source, _name(n)) for n in range(part.place.frames)}
        with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED, allowZip64=True) as target:
            for name in archive.namelist():
                source, entry = new.get(name, (archive, name))
                target.writestr(zipfile.ZipInfo(name, _NO_DATE), source.read(entry))


FORMAT = Format(
    name="png_sequence",
    suffix=".zip",
    mime="application/zip",
    audio=False,
    encoder=_ZipEncoder,
    splicer=_ZipSplicer(),
    bytes_per_pixel=1.0,
)
