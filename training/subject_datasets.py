"""What teaches the network that cuts out whatever stands in front, what chooses among its states, and what judges it.

Only sources of grade A and A- of the manifest of objects; the folders are those that its `collect.py` writes.
Of the masked sequences each does one thing: those in `TEACH` teach, those in `CHOOSE` choose among states of the
training, those in `REPORT` are looked at when figures are written down and at no other time.
"""

from __future__ import annotations

from dataclasses import dataclass

from datasets import MORE_VIDEO, SCORED_PHOTOS, VIDEO, Kind, Photos

TEACH = ["bear", "boat", "dog-agility", "hike", "hockey", "mallard-fly", "motorbike", "rollerblade", "stroller"]
CHOOSE = ["breakdance", "bus", "elephant", "libby", "lucia", "mallard-water", "soccerball", "surf"]
REPORT = ["car-shadow", "flamingo", "rhino", "scooter-black", "soapbox", "swing", "tennis", "train"]


@dataclass(frozen=True)
class Footage:
    """A clip without masks: every `step`-th frame, at most `frames` of them."""

    path: str
    frames: int = 16
    step: int = 2


# Labelled by the teacher, where its looks agree; of few pictures each.
OBJECTS = (
    Photos("photo/natures_domain", Kind.THING),
    Photos("photo/npc_animals", Kind.THING),
    Photos("photo/vendure_products", Kind.THING),
    Photos("photo/mdn_photos", Kind.THING),
    Photos("photo/coral", Kind.THING),
    Photos("photo/flutter_birds", Kind.THING),
)

# The same, of many pictures each: every one is labeled in `PARTS` parts spread over its folder, the first part of each
# before the second of any, so that training beside it soon sees something of everything.
PARTS = 5
PLENTY = (
    Photos("photo/cars_wikipedia", Kind.THING, limit=500),
    Photos("train/more/us_18f_team", Kind.PEOPLE),
    Photos("photo/clothing", Kind.THING, limit=400),
    Photos("train/more/us_pif", Kind.PEOPLE),
    Photos("photo/groceries_held", Kind.THING, limit=150),
    Photos("train/more/us_18f_blog", Kind.PEOPLE),
    Photos("train/ccp_unlabelled", Kind.BODY, limit=250),
)

PEOPLE = (
    Photos("train/more/digitalgov", Kind.PEOPLE),
    Photos("train/more/peacecorps", Kind.PEOPLE),
    Photos("train/more/azure_samples", Kind.THING),
)

# Masks by people: these need no teacher.
MASKED = (
    Photos("photo+mask/coco_coco_mini/rgb", Kind.THING, masks="photo+mask/coco_coco_mini/mask"),
    Photos("photo+mask/coco_coco_tiny/rgb", Kind.THING, masks="photo+mask/coco_coco_tiny/mask"),
    Photos("photo+mask/coco_tiny_coco/rgb", Kind.THING, masks="photo+mask/coco_tiny_coco/mask"),
    Photos("photo+mask/coco_coco128/rgb", Kind.THING, masks="photo+mask/coco_coco128/mask"),
)
MASKED_PEOPLE = Photos("train/ccp_labelled/rgb", Kind.BODY, masks="train/ccp_labelled/mask", without=SCORED_PHOTOS)

CUTOUTS = "cutout/saleor_cutouts"

FOOTAGE = (
    *(
        Footage(f"clip/edgetam/{name}.mp4")
        for name in (
            "05_landing_dog_soccer",
            "07_snowboarder",
            "11_polevault",
            "13_butterfly",
            "16_robotarm",
            "21_biker",
            "22_dogskateboarder",
        )
    ),
    *(Footage(f"clip/mdn_toys/{name}.mp4") for name in ("crystal", "elf", "frog", "monster", "pig", "rabbit")),
    Footage("clip/flutter_butterfly/Butterfly-209.mp4"),
    Footage("clip/mdn_css/video.webm"),
    Footage("clip/mdn_css/windowsill.webm"),
    Footage("clip/sleap_robot/small_robot.mp4"),
)

# People who move, in `DATA`.
PEOPLE_FOOTAGE = (
    Footage(f"{MORE_VIDEO}/tfjs_squats_5fps.mp4", frames=24, step=1),
    Footage(f"{VIDEO}/kids_bed.mp4", frames=24, step=4),
    Footage(f"{VIDEO}/bw_film_three_women.mp4", step=4),
    Footage(f"{MORE_VIDEO}/vipy_office.mp4", step=4),
    *(Footage(f"{VIDEO}/asl_{word}.mkv") for word in ("again", "help", "night", "yes")),
)

# Nothing in front there; some of the wallpapers show something, and are left out. Every fourth picture by name is
# kept for the set of empty scenes.
WITH_SUBJECT = frozenset(
    (
        "2004default",
        "Dragonfly_by_Bolly",
        "Fossa_by_Jasper_Roks",
        "Martin_Adams",
        "Painting-Colors_by__herobrine7gamer",
        "Picture_0B_by_freespace",
        "Picture_1A_by_freespace",
        "Tj_Holowaychuk",
        "Wine_by_Jakkub_Mede",
        "calla",
        "f1946f13_kait-herzog-8242",
        "firstgeneration",
        "free_by_Peter_Nerlich",
        "friends_by_Aitzol_Berasategi",
        "goldfish",
        "greentock_by_Peter_Nerlich",
        "licorice-d",
        "licorice-l",
        "rhythm",
        "rollpaper",
        "seeding_by_Clements_Engelhardt",
        "string",
        "symbolic-d",
        "symbolic-l",
        "the-mouse",
    )
)
PLACES = (
    Photos("train/bg", Kind.BACKGROUND, without=WITH_SUBJECT | {"Ashim_DSilva"}),
    Photos("train/more/popos", Kind.BACKGROUND, without=WITH_SUBJECT),
    Photos("train/more/elementary", Kind.BACKGROUND, without=WITH_SUBJECT),
)
FETCHED = (
    Photos("photos", Kind.BACKGROUND, without=WITH_SUBJECT),
    Photos("ground", Kind.GROUND),
)
PANORAMAS = Photos("panoramas", Kind.BACKGROUND)  # none of them is kept
KEPT_EVERY = 4
NOT_EMPTY = frozenset({"Morskie_Oko"})  # kept, but a fern stands in front
