"""Outputs of one frame: picks the frame at a given moment, or the one that shows its subject best."""

from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np

from alphareel.domain.errors import BadVideo
from alphareel.imaging.frame import Frame, Plane
from alphareel.media.ffmpeg_errors import translating_read_errors
from alphareel.media.output_file import OutputFile, VerificationProfile
from alphareel.media.verify import ExpectedOutput, Inspection

_MAX_SIDE = 256  # pixels of the longer side at which frames are scored
_ENOUGH_COVERAGE = 0.1  # share of the frame from which a larger subject scores no better
_BEST_LUMA, _LUMA_SPREAD = 118.0, 60.0  # mean luma that scores best, and the spread of the Gaussian around it
_MIN_GAIN = 1.05  # factor by which a later frame must score better to replace an earlier one


class PosterFile(OutputFile):
    """An output file that keeps one of the frames it receives and writes that one. Holds one frame in memory."""

    _best: tuple[Frame, Plane | None] | None = None
    _best_score = 0.0

    def write(self, frame: Frame, alpha: Plane | None) -> None:
        if self._best is None or self._is_preferred(frame, alpha):
            self._best = (frame, alpha)

    def finish(self) -> ExpectedOutput:
        assert self._best is not None, "a run without frames is not finished"
        super().write(*self._best)
        return replace(super().finish(), seconds=0.0)

    def _is_preferred(self, frame: Frame, alpha: Plane | None) -> bool:
        moment = self._target.moment
        if moment is not None:
            return float(frame.pts * self._target.clip.time_base) <= moment
        score = poster_score(frame, alpha)
        if score <= self._best_score * _MIN_GAIN:
            return False
        self._best_score = score
        return True


def poster_score(frame: Frame, alpha: Plane | None) -> float:
    """How well a frame shows its subject, 0 or more: sharpness x exposure x coverage x how little is cut off."""
    height, width = frame.y.shape
    scale = min(1.0, _MAX_SIDE / max(height, width))
    size = max(2, round(width * scale)), max(2, round(height * scale))
    luma = cv2.resize(frame.y, size, interpolation=cv2.INTER_AREA).astype(np.float32)
    mask = np.full_like(frame.y, 255) if alpha is None else alpha
    weights = cv2.resize(mask, size, interpolation=cv2.INTER_AREA) / np.float32(255)
    total = float(weights.sum())
    if total < 1:
        return 0.0
    detail = float((np.abs(cv2.Laplacian(luma, cv2.CV_32F)) * weights).sum()) / total
    exposure = float(np.exp(-((((luma * weights).sum() / total - _BEST_LUMA) / _LUMA_SPREAD) ** 2)))
    coverage = min(1.0, total / weights.size / _ENOUGH_COVERAGE)
    return detail * exposure * coverage * _completeness(weights)


def _completeness(weights: np.ndarray) -> float:
    """1 minus half the coverage of the left, right and top edges. The lower edge commonly cuts people off."""
    edge = np.concatenate([weights[0], weights[:, 0], weights[:, -1]])
    return 1.0 - 0.5 * float(edge.mean())


def inspect_still(path: Path, moments: tuple[Fraction, ...]) -> Inspection:
    """The facts of a picture file, which is decoded. Without an alpha channel it counts as opaque. Raises BadVideo."""
    with translating_read_errors(path):
        data = np.frombuffer(path.read_bytes(), np.uint8)
    picture = cv2.imdecode(data, cv2.IMREAD_UNCHANGED) if len(data) else None
    if picture is None or picture.ndim != 3:
        raise BadVideo("The picture cannot be decoded.")
    height, width, channels = picture.shape
    has_alpha = channels == 4
    opaque = np.full((height, width), 255, np.uint8)
    alpha = np.ascontiguousarray(picture[..., 3], np.uint8) if has_alpha else opaque
    # encoders omit a channel that is opaque everywhere; the samples show whether that is right
    return Inspection(
        1, 0.0, width, height, has_alpha or bool(moments), has_audio=False, alphas=(alpha,) * len(moments)
    )


class StillEncoder:
    """A FrameEncoder of one frame. ``encode_picture``: makes the bytes of the file."""

    audio = None
    verification = VerificationProfile(inspect_still, alpha_error=0.0)

    def __init__(self, path: Path, encode_picture: Callable[[Frame, Plane | None], bytes]) -> None:
        self._path = path
        self._encode_picture = encode_picture

    def encode(self, frame: Frame, alpha: Plane | None, duration: int) -> None:  # noqa: ARG002 - a still has none
        self._path.write_bytes(self._encode_picture(frame, alpha))

    def finish(self, end: int) -> None:
        """Nothing to flush."""

    def abort(self) -> None:
        """Nothing to close."""
