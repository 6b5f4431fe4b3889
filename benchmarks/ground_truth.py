"""Ground truth: clips with known mattes, from a folder, and one that is generated.

Each GroundTruth reads frames as the pipeline's reader does, with a model input of the size that the engine needs.
The folders may contain, each part optional:

    ccp/rgb/*.jpg, ccp/mask/*.png        photos of people, masks made by hand
    davis/NAME/rgb/*.jpg, mask/*.png     sequences with masks made by hand
    composite/*_rgb.mp4, *_alpha.mkv     a keyed dancer before a moving photo, exact alpha
    greenscreen/axe_dancer_puregreen.mp4 the same dancer on a green screen
    video/person_queue_static_camera.mp4 a room whose first frame is empty, into which he is composited
    OBJECTS/clip+mask/davis16/NAME/...   more sequences: people, animals, vehicles, things
    EMPTY/*.jpg                          rooms, streets and textures with nothing in front
    SKIN/PERSON/NN-RRGGBB.png            drawn people, each in several skin tones, exact alpha (see skin_tones.py)
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
from benchmarks import skin_tones, small_subject

Subject = Literal["people", "anything", "nothing", "screen"]
Alpha = NDArray[np.float32]
Size = tuple[int, int]

WARMUP_FRAMES = 4
SKIN_TONE = "skin tone "  # begins the groups of drawn people, one for each tone
# Sequences of people. The others show a dog and a car, which the engines for people do not cut out. The masks have one
# subject: spectators behind the dancer count as errors, the scooter of the rider belongs to the subject.
_DAVIS_PEOPLE = ("breakdance", "scooter-black")
# Sequences of any subject, people among them. The first chose between states of the training of the engine subject, the
# second are for figures alone (training/subject_datasets.py). What taught it is in neither.
_ANY_SUBJECT = {
    "any subject, chose": (
        "breakdance", "bus", "elephant", "libby", "lucia", "mallard-water", "soccerball", "surf",
    ),
    "any subject, held out": (
        "car-shadow", "flamingo", "rhino", "scooter-black", "soapbox", "swing", "tennis", "train",
    ),
}  # fmt: skip


@dataclass(frozen=True)
class GroundTruth:
    """One clip with its mattes. ``group``: its row in the table. ``exact``: true alpha, not a mask made by hand.

    ``still``: one photo, repeated ``WARMUP_FRAMES`` times and scored at the last, for recurrent engines.
    ``frames(model_input_size)`` yields frames. ``alphas()`` yields as many float32 (H, W) in 0..1, or more.
    """

    group: str
    name: str
    subject: Subject
    exact: bool
    still: bool
    clip: Clip
    frames: Callable[[Size | None], Iterator[Frame]]
    alphas: Callable[[], Iterator[Alpha]]


def find(
    folder: Path,
    stack: ExitStack,
    *,
    objects: Path | None = None,
    empty: Path | None = None,
    skin: Path | None = None,
) -> tuple[list[GroundTruth], list[str]]:
    """All ground truth in the folders and the generated clip, and one sentence for each missing part.

    The sentences are stored with the figures, so they name no folder of this machine: ``folder``, ``objects``,
    ``empty`` and ``skin`` are the options of ``benchmarks/quality.py`` of these names (``folder``: ``--data``).
    """
    ground_truths, reasons = [_generated(Path(stack.enter_context(tempfile.TemporaryDirectory())))], []
    parts = {
        "ccp": _photos(folder / "ccp"),
        "davis": [t for name in _DAVIS_PEOPLE for t in sequence(folder / "davis" / name)],
        "composite": composite(folder),
        "far": far(folder),
        "greenscreen": _screen(folder),
    }
    for name, part in parts.items():
        ground_truths.extend(part)
        if not part:
            reasons.append(f"{name}: skipped, {name}/ in the folder --data is missing or incomplete.")
    if objects is not None:
        for group, names in _ANY_SUBJECT.items():
            sequences = [t for name in names for t in _any_subject(folder, objects, name, group)]
            ground_truths.extend(sequences)
            if len(sequences) < len(names):
                missing = ", ".join(sorted({*names} - {t.name for t in sequences}))
                reasons.append(f"{group}: without {missing}, which clip+mask/davis16/ in the folder --objects lacks.")
    if empty is not None:
        scenes = [_empty_scene(path) for path in sorted(empty.glob("*.jpg"))]
        ground_truths.extend(scenes)
        if not scenes:
            reasons.append("empty scenes: skipped, no pictures in the folder --empty.")
    if skin is not None:
        people = _drawn_people(skin)
        ground_truths.extend(people)
        if not people:
            reasons.append(
                "skin tones: skipped, no pictures in the folder --skin (training/draw_skin_tones.py draws them)."
            )
    return ground_truths, reasons


def _generated(folder: Path) -> GroundTruth:
    path = folder / "generated.mp4"
    clip = make_clip(path, frames=24, width=1280, height=720, background="green")
    return _video("screen, made", path.stem, "screen", path, lambda: (_share(clip.alpha(n)) for n in range(24)))


def _photos(folder: Path) -> list[GroundTruth]:
    ground_truths = []
    for photo in sorted((folder / "rgb").glob("*.jpg")):
        mask = folder / "mask" / f"{photo.stem}.png"
        ground_truths.append(
            _pictures("ccp photos", photo.stem, [photo] * WARMUP_FRAMES, [mask] * WARMUP_FRAMES, still=True)
        )
    return ground_truths


def sequence(folder: Path, group: str = "davis people", subject: Subject = "people") -> list[GroundTruth]:
    photos, masks = sorted((folder / "rgb").glob("*.jpg")), sorted((folder / "mask").glob("*.png"))
    return [_pictures(group, folder.name, photos, masks, subject=subject)] if photos else []


def _any_subject(folder: Path, objects: Path, name: str, group: str) -> list[GroundTruth]:
    """A sequence from one of the two places where it may be."""
    return sequence(folder / "davis" / name, group, "anything") or sequence(
        objects / "clip+mask" / "davis16" / name, group, "anything"
    )


def _empty_scene(photo: Path) -> GroundTruth:
    return _pictures("empty scenes", photo.stem, [photo] * WARMUP_FRAMES, None, still=True, subject="nothing")


def _drawn_people(folder: Path) -> list[GroundTruth]:
    """Each person in each tone before each wall, named ``WALL: PERSON``; a group for each tone."""
    return [
        GroundTruth(
            f"{SKIN_TONE}{picture.stem}", f"{wall}: {picture.parent.name}", "people", exact=True, still=True,
            clip=_clip(*skin_tones.size(picture)), frames=skin_tones.frames(picture, wall, WARMUP_FRAMES),
            alphas=skin_tones.alphas(picture, WARMUP_FRAMES),
        )
        for picture in skin_tones.pictures(folder)
        for wall in skin_tones.WALLS
    ]  # fmt: skip


def composite(folder: Path) -> list[GroundTruth]:
    ground_truths = []
    for path in sorted((folder / "composite").glob("*_rgb.mp4")):
        mattes = path.with_name(path.name.replace("_rgb.mp4", "_alpha.mkv"))
        ground_truths.append(_video("composite", path.stem, "people", path, partial(_gray, mattes)))
    return ground_truths


def far(folder: Path) -> list[GroundTruth]:
    if small_subject.sources(folder) is None:
        return []
    clip = _clip(*small_subject.SIZE)
    return [
        GroundTruth(
            "far", "dancer in a room", "people", exact=True, still=False, clip=clip,
            frames=small_subject.frames(folder), alphas=small_subject.alphas(folder),
        )
    ]  # fmt: skip


def _screen(folder: Path) -> list[GroundTruth]:
    path = folder / "greenscreen" / "axe_dancer_puregreen.mp4"
    mattes = folder / "composite" / "axe_dancer_canazei_alpha.mkv"
    if not (path.is_file() and mattes.is_file()):
        return []
    return [_video("screen, real", path.stem, "screen", path, partial(_gray, mattes))]


def _video(group: str, name: str, subject: Subject, path: Path, alphas: Callable[[], Iterator[Alpha]]) -> GroundTruth:
    def frames(model_input_size: Size | None) -> Iterator[Frame]:
        with open_reader(path, Limits()) as reader:
            yield from reader.frames(thumbnail=model_input_size)

    with open_reader(path, Limits()) as reader:
        return GroundTruth(
            group, name, subject, exact=True, still=False, clip=reader.clip, frames=frames, alphas=alphas
        )


def _gray(path: Path) -> Iterator[Alpha]:
    with av.open(str(path)) as container:
        for frame in container.decode(video=0):
            yield _share(np.asarray(frame.to_ndarray(format="gray"), np.uint8))


def _share(levels: NDArray[np.uint8]) -> Alpha:
    return np.asarray(levels.astype(np.float32) / 255, np.float32)


def _pictures(
    group: str,
    name: str,
    photos: list[Path],
    masks: list[Path] | None,
    *,
    still: bool = False,
    subject: Subject = "people",
) -> GroundTruth:
    """Photos with their masks; without masks there is nothing in front."""
    height, width = _even(_read(photos[0])).shape[:2]

    def frames(model_input_size: Size | None) -> Iterator[Frame]:
        for index, photo in enumerate(photos):
            yield frame_of(_even(_read(photo)), model_input_size, index=index)

    def alphas() -> Iterator[Alpha]:
        for mask in masks or ():
            yield np.asarray(_even(_read(mask))[..., 0] > 127, np.float32)
        for _ in photos if masks is None else ():
            yield np.zeros((height, width), np.float32)

    clip = _clip(width, height)
    return GroundTruth(group, name, subject, exact=False, still=still, clip=clip, frames=frames, alphas=alphas)


def _read(path: Path) -> NDArray[np.uint8]:
    picture = cv2.imread(str(path), cv2.IMREAD_COLOR)
    if picture is None:
        raise SystemExit(f"{path} cannot be read as an image.")
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
