"""A small subject of exact alpha: the keyed dancer, shrunk, walks through a room of which an empty frame is there."""

from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path

import av
import cv2
import numpy as np
from numpy.typing import NDArray

from alphareel.imaging.frame import Frame
from alphareel.testing.frames import frame_of

SIZE = (1280, 720)
_TALL = 300  # of 720 rows: the subject fills a fortieth of the frame
_AT = (700, 340)
_STEP = 3  # pixels to the right a frame
_GRAIN = 2.0
_FRAMES = 60

Picture = NDArray[np.uint8]
Alpha = NDArray[np.float32]


def parts(folder: Path) -> tuple[Path, Path, Path] | None:
    """The room, the dancer before his screen and his alpha; None unless all are there."""
    found = (
        folder / "video" / "person_queue_static_camera.mp4",
        folder / "greenscreen" / "axe_dancer_puregreen.mp4",
        folder / "composite" / "axe_dancer_canazei_alpha.mkv",
    )
    return found if all(path.is_file() for path in found) else None


def frames(folder: Path) -> Callable[[tuple[int, int] | None], Iterator[Frame]]:
    """The clip, a frame at a time."""

    def made(thumbnail: tuple[int, int] | None) -> Iterator[Frame]:
        for index, (picture, _) in enumerate(_composed(folder)):
            yield frame_of(picture, thumbnail, index=index)

    return made


def alphas(folder: Path) -> Callable[[], Iterator[Alpha]]:
    """Its mattes."""
    return lambda: (alpha for _, alpha in _composed(folder))


def _composed(folder: Path) -> Iterator[tuple[Picture, Alpha]]:
    found = parts(folder)
    assert found is not None
    room, dancer, matte = found
    backdrop = cv2.resize(next(_decoded(room, "rgb24")), SIZE, interpolation=cv2.INTER_CUBIC).astype(np.float32)
    grain = np.random.default_rng(0)
    pairs = zip(_decoded(dancer, "rgb24"), _decoded(matte, "gray"), strict=False)
    for index, (picture, levels) in enumerate(islice(pairs, _FRAMES)):
        color, share = _shrunk(picture, levels)
        left, top = _AT[0] + _STEP * index, _AT[1]
        window = slice(top, top + share.shape[0]), slice(left, left + share.shape[1])
        whole, alpha = backdrop.copy(), np.zeros(SIZE[::-1], np.float32)
        whole[window] = color + whole[window] * (1 - share[..., None])
        alpha[window] = share
        whole += grain.normal(0, _GRAIN, whole.shape)
        yield np.asarray(np.clip(whole, 0, 255), np.uint8), alpha


def _shrunk(picture: Picture, levels: Picture) -> tuple[Alpha, Alpha]:
    """Color times alpha, and alpha; green that the screen threw on the dancer is taken out."""
    alpha = np.asarray(levels, np.float32) / 255
    color = picture.astype(np.float32)
    color[..., 1] = np.minimum(color[..., 1], np.maximum(color[..., 0], color[..., 2]) + 8)
    size = (round(_TALL * alpha.shape[1] / alpha.shape[0]), _TALL)
    small, share = (cv2.resize(p, size, interpolation=cv2.INTER_AREA) for p in (color * alpha[..., None], alpha))
    return np.asarray(small, np.float32), np.asarray(share, np.float32)


def _decoded(path: Path, kind: str) -> Iterator[Picture]:
    with av.open(str(path)) as container:
        for frame in container.decode(video=0):
            yield np.asarray(frame.to_ndarray(format=kind), np.uint8)
