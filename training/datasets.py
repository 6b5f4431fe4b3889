"""Which pictures and clips train the network: folders, their kind, and how many of each.

Only material whose license clearly covers it is listed (grades A and A- of the manifests, and the
clothing-co-parsing photos). What evaluate.py measures on stays out: the clips in `HELD_OUT`, the photos in
`SCORED_PHOTOS`, and the background of the composite.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum


class Kind(IntEnum):
    """What a packed picture shows, and so how the augmentation may use it."""

    BODY = 0  # full-body street photo of one person
    PEOPLE = 1  # portraits, groups and everyday scenes with people
    CLIP = 2  # frame of a clip; frames of one clip follow one another
    HARD_NEGATIVE = 3  # things that look like people: garments without anyone in them
    BACKGROUND = 4  # a place or things, nobody there
    STRIP = 5  # wall or street beside a person, mirrored: plentiful, and all alike
    GROUND = 6  # rock, grass, sand, snow and little else
    SYNTHETIC = 7  # drawn people with exact alpha; around them is nothing that counts
    INPAINTED = 8  # a place out of which its people were taken
    THING = 9  # an animal, a vehicle, a product: whatever stands in front that is no person


@dataclass(frozen=True)
class Photos:
    """A folder of photos, relative to the data directory.

    `masks` is a folder of human-made masks with the same stems; `limit` keeps the first photos by name;
    photos in which the teacher finds less than `cover` of the frame are no use as people; those with the stems
    `without` are kept for scoring.
    """

    folder: str
    kind: Kind
    limit: int = 10_000
    masks: str | None = None
    cover: float = 0.05
    without: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Clip:
    """A clip, relative to the data directory: every `step`-th frame, `frames` of them.

    Without `people` every frame is a background; `smooth` tells whether neighbors are close enough in time
    to train the memory.
    """

    path: str
    frames: int = 48
    step: int = 1
    people: bool = True
    smooth: bool = True


SCORED = (
    "0025 0042 0086 0144 0152 0164 0184 0189 0240 0245 0262 0267 0276 0302 0313 0370 0378 0415 0417 0422 "
    "0449 0466 0467 0517 0539 0551 0599 0642 0657 0703 0718 0720 0790 0840 0947 0999"
)
SCORED_PHOTOS = frozenset(SCORED.split())

PHOTOS = (
    Photos("train/more/clothing_cc0", Kind.HARD_NEGATIVE),
    Photos("train/bg", Kind.BACKGROUND, without=frozenset({"Ashim_DSilva"})),
    Photos("train/more/popos", Kind.BACKGROUND),
    Photos("train/more/elementary", Kind.BACKGROUND),
    Photos("train/more/us_pif", Kind.PEOPLE),
    Photos("train/more/us_18f_team", Kind.PEOPLE),
    Photos("train/more/us_18f_blog", Kind.PEOPLE, cover=0.02),
    Photos("train/more/digitalgov", Kind.PEOPLE, cover=0.02),
    Photos("train/more/peacecorps", Kind.PEOPLE, cover=0.02),
    Photos("train/more/coco_cc", Kind.PEOPLE, cover=0.02),
    Photos("train/more/nasa_veda", Kind.PEOPLE, cover=0.02),
    Photos("train/more/azure_samples", Kind.PEOPLE, cover=0.02),
    Photos("train/more/vipy", Kind.PEOPLE, cover=0.02),
    Photos("train/ccp_labelled/rgb", Kind.BODY, masks="train/ccp_labelled/mask", without=SCORED_PHOTOS),
    Photos("train/ccp_unlabelled", Kind.BODY),
)

VIDEO, MORE_VIDEO = "clips/video", "train/more/video/clips"
GRID = "bbaf2n brbk7n lbax4n lbbc2a lrwp9a lwbsza pwij3p sbia1a sbwe5n swiz3n"

CLIPS = (
    *(Clip(f"{VIDEO}/asl_{word}.mkv") for word in ("again", "help", "night", "sister", "yes")),
    *(Clip(f"{MORE_VIDEO}/grid_{name}.mp4", frames=24, step=3) for name in GRID.split()),
    Clip(f"{VIDEO}/kids_bed.mp4", frames=96, step=2),
    Clip(f"{VIDEO}/bw_film_three_women.mp4", frames=80, step=2),
    Clip(f"{VIDEO}/person_queue_static_camera.mp4", frames=110, step=12, smooth=False),
    Clip(f"{MORE_VIDEO}/tfjs_facemesh.mp4", frames=60, step=3),
    Clip(f"{MORE_VIDEO}/tfjs_squats_5fps.mp4", frames=60, smooth=False),
    Clip(f"{MORE_VIDEO}/vipy_office.mp4", frames=60, step=3),
    Clip("clips/greenscreen/mdn_yellowgreen_wall.mp4", frames=60, step=6),
    Clip(f"{VIDEO}/bug_bw.mp4", frames=8, step=20, people=False),
    Clip(f"{VIDEO}/flower_timelapse.mp4", frames=8, step=15, people=False),
    Clip(f"{VIDEO}/hummingbird.mp4", frames=8, step=20, people=False),
)

HELD_OUT = tuple(f"{VIDEO}/{name}" for name in ("asl_eat.mkv", "webcam_meeting_room.webm", "woman_thumb_dark.mp4"))
