"""Footage whose matte is known, as clips for an engine: what there is in a folder, and one clip made on the spot.

Each truth hands out frames as the pipeline's reader does, with a thumbnail of the size that the engine asks for.
Expected in the folder, each part optional:

    ccp/rgb/*.jpg, ccp/mask/*.png        photos of people, hand-made masks
    davis/NAME/rgb/*.jpg, mask/*.png     sequences with hand-made masks
    composite/*_rgb.mp4, *_alpha.mkv     a keyed dancer before a moving photo, exact alpha
    greenscreen/axe_dancer_puregreen.mp4 the same dancer before his screen
    video/person_queue_static_camera.mp4 a room whose first frame is empty, in which he is set small
"""

import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import Literal

import av
import cv2
import numpy as np
from numpy.typing import NDArray

from alphareel.domain.clip import Clip, Color, Limits
from alphareel.imaging.frame import Frame
from alphareel.media.reader import open_reader
from alphareel.testing.clips import make_clip
from alphareel.testing.frames import frame_of
from benchmarks import small_subject

Subject = Literal["people", "screen"]
Alpha = NDArray[np.float32]
Size = tuple[int, int]

SETTLE = 4
# Sequences of people; the others show a dog and a car, which no engine of ours claims to cut out. Their masks know
# one subject: spectators behind the dancer count as errors, the scooter under its rider is wanted.
_DAVIS_PEOPLE = ("breakdance", "scooter-black")


@dataclass(frozen=True)
class Truth:
    """One clip with its mattes. ``group``: the row it counts for; ``exact``: alpha, not a mask made by hand.

    ``still``: one photo, shown ``SETTLE`` times and judged at the last, for engines with a memory.
    ``frames(thumbnail)`` yields frames; ``alphas()`` float32 (H, W) in 0..1 in the same order, as many or more.
    """

    group: str
    name: str
    subject: Subject
    exact: bool
    still: bool
    clip: Clip
    frames: Callable[[Size | None], Iterator[Frame]]
    alphas: Callable[[], Iterator[Alpha]]


def find(folder: Path, stack: ExitStack) -> tuple[list[Truth], list[str]]:
    """Every truth in the folder and the made one; and one sentence for each part that is not there."""
    found, reasons = [_made(Path(stack.enter_context(tempfile.TemporaryDirectory())))], []
    parts = {
        "ccp": _photos(folder / "ccp"),
        "davis": [t for name in _DAVIS_PEOPLE for t in _sequence(folder / "davis" / name)],
        "composite": _composite(folder),
        "far": _far(folder),
        "greenscreen": _screen(folder),
    }
    for name, truths in parts.items():
        found.extend(truths)
        if not truths:
            reasons.append(f"{name}: skipped, {folder / name} is not there or not complete.")
    return found, reasons


def _made(folder: Path) -> Truth:
    path = folder / "made.mp4"
    truth = make_clip(path, frames=24, width=1280, height=720, background="green")
    return _video("screen, made", path.stem, "screen", path, lambda: (_share(truth.alpha(n)) for n in range(24)))


def _photos(folder: Path) -> list[Truth]:
    made = []
    for photo in sorted((folder / "rgb").glob("*.jpg")):
        mask = folder / "mask" / f"{photo.stem}.png"
        made.append(_pictures("ccp photos", photo.stem, [photo] * SETTLE, [mask] * SETTLE, still=True))
    return made


def _sequence(folder: Path) -> list[Truth]:
    photos, masks = sorted((folder / "rgb").glob("*.jpg")), sorted((folder / "mask").glob("*.png"))
    return [_pictures("davis people", folder.name, photos, masks)] if photos else []


def _composite(folder: Path) -> list[Truth]:
    made = []
    for path in sorted((folder / "composite").glob("*_rgb.mp4")):
        mattes = path.with_name(path.name.replace("_rgb.mp4", "_alpha.mkv"))
        made.append(_video("composite", path.stem, "people", path, partial(_gray, mattes)))
    return made


def _far(folder: Path) -> list[Truth]:
    if small_subject.parts(folder) is None:
        return []
    clip = _clip(*small_subject.SIZE)
    return [
        Truth(
            "far", "dancer in a room", "people", exact=True, still=False, clip=clip,
            frames=small_subject.frames(folder), alphas=small_subject.alphas(folder),
        )
    ]  # fmt: skip


def _screen(folder: Path) -> list[Truth]:
    path = folder / "greenscreen" / "axe_dancer_puregreen.mp4"
    mattes = folder / "composite" / "axe_dancer_canazei_alpha.mkv"
    if not (path.is_file() and mattes.is_file()):
        return []
    return [_video("screen, real", path.stem, "screen", path, partial(_gray, mattes))]


def _video(group: str, name: str, subject: Subject, path: Path, alphas: Callable[[], Iterator[Alpha]]) -> Truth:
    def frames(thumbnail: Size | None) -> Iterator[Frame]:
        with open_reader(path, Limits()) as reader:
            yield from reader.frames(thumbnail=thumbnail)

    with open_reader(path, Limits()) as reader:
        return Truth(group, name, subject, exact=True, still=False, clip=reader.clip, frames=frames, alphas=alphas)


def _gray(path: Path) -> Iterator[Alpha]:
    with av.open(str(path)) as container:
        for frame in container.decode(video=0):
            yield _share(np.asarray(frame.to_ndarray(format="gray"), np.uint8))


def _share(levels: NDArray[np.uint8]) -> Alpha:
    return np.asarray(levels.astype(np.float32) / 255, np.float32)


def _pictures(group: str, name: str, photos: list[Path], masks: list[Path], *, still: bool = False) -> Truth:
    height, width = _even(_read(photos[0])).shape[:2]

    def frames(thumbnail: Size | None) -> Iterator[Frame]:
        for index, photo in enumerate(photos):
            yield frame_of(_even(_read(photo)), thumbnail, index=index)

    def alphas() -> Iterator[Alpha]:
        for mask in masks:
            yield np.asarray(_even(_read(mask))[..., 0] > 127, np.float32)

    clip = _clip(width, height)
    return Truth(group, name, "people", exact=False, still=still, clip=clip, frames=frames, alphas=alphas)


def _read(path: Path) -> NDArray[np.uint8]:
    picture = cv2.imread(str(path), cv2.IMREAD_COLOR)
    if picture is None:
        raise SystemExit(f"{path} cannot be read as a picture.")
    return np.asarray(cv2.cvtColor(picture, cv2.COLOR_BGR2RGB), np.uint8)


def _even(picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return picture[: picture.shape[0] // 2 * 2, : picture.shape[1] // 2 * 2]


def _clip(width: int, height: int) -> Clip:
    return Clip(
        width=width,
        height=height,
        time_base=Fraction(1, 25),
        rate=Fraction(25),
        seconds=0,
        frames=0,
        codec="mjpeg",
        container="image2",
        pixel_format="yuv420p",
        color=Color(matrix=1),
    )
