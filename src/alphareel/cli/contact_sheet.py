"""Contact sheets: frames of a source, of its result over a checkerboard, and the alpha, one column a moment."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from alphareel.cli.targets import OWN_FILES
from alphareel.domain.clip import Clip
from alphareel.domain.errors import BadVideo, InvalidRequest
from alphareel.imaging.color import yuv_to_rgb
from alphareel.imaging.frame import Frame, Plane
from alphareel.imaging.sheet import labeled, over_checkers, png, stacked
from alphareel.media.atomic_file import refuse_existing, write_file
from alphareel.media.probe import probe
from alphareel.media.reader import open_reader

_CELL_WIDTH = 320
_MOST_COLUMNS = 100


@dataclass(frozen=True)
class _Cell:
    """A frame at cell size: ``rgb`` (h, w, 3) uint8, ``alpha`` (h, w) uint8, ``seconds`` from the clip's start."""

    rgb: NDArray[np.uint8]
    alpha: Plane
    seconds: float


def draw_sheet(source: Path, result: Path, picture: Path, *, columns: int = 4, overwrite: bool = False) -> None:
    """Write the PNG ``picture``: ``columns`` moments spread over the clip; rows source, result, alpha.

    ``overwrite``: replace a picture that exists, which neither video may be. Raises TargetExists, InvalidRequest,
    BadVideo when either video cannot be read, StorageFailed when the picture cannot be written.
    """
    if not 1 <= columns <= _MOST_COLUMNS:
        raise InvalidRequest(f"A sheet has between 1 and {_MOST_COLUMNS} columns, not {columns}.")
    _check_picture(picture, (source, result), overwrite=overwrite)
    seconds = min(probe(path, OWN_FILES).seconds for path in (source, result))
    moments = [seconds * (n + 0.5) / columns for n in range(columns)]
    before, after = (list(_cells(path, moments)) for path in (source, result))
    if not before or not after:
        raise BadVideo("There is no frame to draw.", hint="Check that both files are videos.")
    rows = [
        [labeled(c.rgb, f"source {c.seconds:.2f} s") for c in before],
        [labeled(over_checkers(c.rgb, c.alpha), f"result {c.seconds:.2f} s") for c in after],
        [labeled(np.dstack([c.alpha] * 3), "alpha") for c in after],
    ]
    sheet = stacked([stacked(row, axis=1) for row in rows], axis=0)
    write_file(picture, png(sheet), overwrite=overwrite)


def _check_picture(picture: Path, videos: Sequence[Path], *, overwrite: bool) -> None:
    if picture.suffix.lower() != ".png":
        raise InvalidRequest(f"The contact sheet is a PNG, and {picture} has another suffix.", hint="Name a .png file.")
    if picture.exists() and not picture.is_file():
        raise InvalidRequest(f"{picture} is not a regular file.", hint="Name a .png file.")
    if any(picture.exists() and path.exists() and picture.samefile(path) for path in videos):
        raise InvalidRequest(f"The contact sheet {picture} is one of the videos.", hint="Name another file.")
    if not overwrite:
        refuse_existing(picture)


def _cells(path: Path, moments: Sequence[float]) -> Iterator[_Cell]:
    """The first frame that ends after each moment (seconds), in one pass."""
    waiting = list(moments)
    with open_reader(path, OWN_FILES) as reader:
        clip = reader.clip
        height = max(2, round(_CELL_WIDTH * clip.height / clip.width / 2) * 2)
        for frame in reader.frames(thumbnail=(_CELL_WIDTH, height)):
            if waiting and float((frame.pts + frame.duration) * clip.time_base) > waiting[0]:
                waiting.pop(0)
                yield _cell(frame, clip, float(frame.pts * clip.time_base))
            if not waiting:
                break


def _cell(frame: Frame, clip: Clip, seconds: float) -> _Cell:
    assert frame.thumbnail is not None, "the reader was asked for thumbnails"
    matrix, offset = yuv_to_rgb(clip.color.resolved_matrix(clip.height), full_range=clip.color.full_range)
    planes = cv2.merge(list(frame.thumbnail))
    rgb = cv2.transform(planes, np.concatenate([matrix, offset[:, None]], axis=1))
    size = (rgb.shape[1], rgb.shape[0])
    opaque = np.full(rgb.shape[:2], 255, np.uint8)
    alpha = opaque if frame.alpha is None else cv2.resize(frame.alpha, size, interpolation=cv2.INTER_AREA)
    return _Cell(np.asarray(rgb, np.uint8), np.asarray(alpha, np.uint8), seconds)
