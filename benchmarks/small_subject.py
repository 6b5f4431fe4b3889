"""Ground truth with a small subject: the keyed dancer, scaled down, in a room whose first frame is empty."""

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
_HEIGHT = 300  # of 720 rows: the subject fills a fortieth of the frame
_OFFSET = (700, 340)
_STEP = 3  # pixels to the right per frame
_NOISE = 2.0  # standard deviation in levels
_FRAMES = 60

Picture = NDArray[np.uint8]
Alpha = NDArray[np.float32]


def sources(folder: Path) -> tuple[Path, Path, Path] | None:
    """The files of the room, the dancer on a green screen and his alpha; None unless all exist."""
    paths = (
        folder / "video" / "person_queue_static_camera.mp4",
        folder / "greenscreen" / "axe_dancer_puregreen.mp4",
        folder / "composite" / "axe_dancer_canazei_alpha.mkv",
    )
    return paths if all(path.is_file() for path in paths) else None


def frames(folder: Path) -> Callable[[tuple[int, int] | None], Iterator[Frame]]:
    """A function that reads the frames, each with a model input of the given size."""

    def read(model_input_size: tuple[int, int] | None) -> Iterator[Frame]:
        for index, (picture, _) in enumerate(_composed(folder)):
            yield frame_of(picture, model_input_size, index=index)

    return read


def alphas(folder: Path) -> Callable[[], Iterator[Alpha]]:
    """A function that reads the mattes."""
    return lambda: (alpha for _, alpha in _composed(folder))


def _composed(folder: Path) -> Iterator[tuple[Picture, Alpha]]:
    paths = sources(folder)
    assert paths is not None
    room, dancer, matte = paths
    backdrop = cv2.resize(next(_decoded(room, "rgb24")), SIZE, interpolation=cv2.INTER_CUBIC).astype(np.float32)
    rng = np.random.default_rng(0)
    pairs = zip(_decoded(dancer, "rgb24"), _decoded(matte, "gray"), strict=False)
    for index, (picture, levels) in enumerate(islice(pairs, _FRAMES)):
        color, share = _shrunk(picture, levels)
        left, top = _OFFSET[0] + _STEP * index, _OFFSET[1]
        window = slice(top, top + share.shape[0]), slice(left, left + share.shape[1])
        whole, alpha = backdrop.copy(), np.zeros(SIZE[::-1], np.float32)
        whole[window] = color + whole[window] * (1 - share[..., None])
        alpha[window] = share
        whole += rng.normal(0, _NOISE, whole.shape)
        yield np.asarray(np.clip(whole, 0, 255), np.uint8), alpha


def _shrunk(picture: Picture, levels: Picture) -> tuple[Alpha, Alpha]:
    """Color multiplied by alpha, and alpha, without the green spill of the screen."""
    alpha = np.asarray(levels, np.float32) / 255
    color = picture.astype(np.float32)
    color[..., 1] = np.minimum(color[..., 1], np.maximum(color[..., 0], color[..., 2]) + 8)
    size = (round(_HEIGHT * alpha.shape[1] / alpha.shape[0]), _HEIGHT)
    small, share = (cv2.resize(p, size, interpolation=cv2.INTER_AREA) for p in (color * alpha[..., None], alpha))
    return np.asarray(small, np.float32), np.asarray(share, np.float32)


def _decoded(path: Path, kind: str) -> Iterator[Picture]:
    with av.open(str(path)) as container:
        for frame in container.decode(video=0):
            yield np.asarray(frame.to_ndarray(format=kind), np.uint8)
