"""Training pictures: a person framed anew, set before another background, lit anew and worn down.

A sample is a short sequence of frames (length 1 for stills). In a sequence the person and the background move
apart from each other along smooth paths. Images are RGB uint8 (H, W, 3), alphas uint8 (H, W), sizes (height, width).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import cv2
import numpy as np

from backgrounds import blended, folds, island, likeness, patches, plain
from crops import (
    Framing,
    Matrix,
    find_box,
    frame_person,
    frame_whole,
    is_cut,
    moved,
    onwards,
    standing,
    touches_sides,
    wander,
)
from datasets import Kind
from degradation import Degradation, Light, tone
from shapes import flat_shapes, ground, street
from shards import Image, Sample, ShardDataset

Size = tuple[int, int]
Frames = list[tuple[Image, Image]]
ALIKE = ("all", "patches", "behind")  # which part of a place looks like the person
HURRY = 3.0  # dancers, and cameras that follow a rider
BYSTANDER = 0.6  # of the first person's height: who is smaller is part of the place, not of the subject
MOST_PEOPLE = 9  # in a crowd
BEFORE_CROWD = 0.3  # of the view's height: whoever is smaller does not stand before a crowd


@dataclass(frozen=True)
class Mix:
    """Shares of what samples show."""

    nobody: float = 0.11
    composite: float = 0.66  # of those with somebody
    real_clip: float = 0.35  # of the sequences with the own background
    second: float = 0.22  # composites with a second person behind the first
    bystander: float = 0.5  # of those, far behind
    decoy: float = 0.15  # backgrounds with a person-shaped piece of something else
    strip: float = 0.4  # backgrounds that are a wall or a street beside somebody
    ground: float = 0.25  # backgrounds that are rock, grass, sand or snow
    inpainted: float = 0.25  # backgrounds that are a photo of people without its people
    painted: float = 0.22  # backgrounds of folds and grain that nobody has photographed
    hued_place: float = 0.35  # backgrounds whose colors are turned around the circle: a rock may have the tone of skin
    hued_person: float = 0.15  # people likewise: paint, stage light and false colors
    alike: float = 0.6  # composites whose background takes on the person's colors: color alone must not tell
    alike_kinds: tuple[float, float, float] = (0.3, 0.25, 0.45)  # as in ALIKE
    back_light: float = 0.12
    tumble: float = 0.15  # composites of whole bodies that lean, lie or stand on their head
    bend: float = 0.35  # composites whose limbs are bent anew
    kinds: tuple[float, float, float] = (0.42, 0.38, 0.20)  # bodies, other people, clip frames
    thing: float = 0.0  # pictures of one subject that show no person
    synthetic: float = 0.25  # composites with somebody drawn
    moving_synthetic: float = 0.6  # composites of sequences with somebody drawn: only they move their limbs
    fast: float = 0.0  # paths of subjects and places that are `HURRY` times as fast
    flat: float = 0.0  # flat shapes on a plain ground
    crowd: float = 0.0  # composites before a row of people, who are part of the place
    street: float = 0.0  # backgrounds with rails, a banner, a fence or road marks

    def changed(self, changes: list[str]) -> Mix:
        """The mix with other shares, each written as NAME=SHARE."""
        shares = dict(change.split("=", 1) for change in changes)
        unknown = sorted(name for name in shares if not isinstance(getattr(self, name, None), float))
        if unknown:
            raise SystemExit(f"no single share of the mix: {', '.join(unknown)}")
        return replace(self, **{name: float(share) for name, share in shares.items()})  # type: ignore[arg-type]


# For any subject. A piece of something else in the shape of a subject is a subject, so there are no decoys.
ANY_SUBJECT = Mix(
    nobody=0.12,
    composite=0.5,
    real_clip=0.55,
    decoy=0.0,
    strip=0.3,
    inpainted=0.5,
    painted=0.22,
    alike=0.5,
    alike_kinds=(0.25, 0.35, 0.4),
    tumble=0.1,
    bend=0.2,
    kinds=(0.40, 0.40, 0.20),
    thing=0.5,
    synthetic=0.2,
    moving_synthetic=0.45,
    fast=0.35,
    flat=0.05,
    crowd=0.12,
    street=0.15,
)


class Augmenter:
    """Draws random samples from shards."""

    def __init__(self, shards: ShardDataset, seed: int, mix: Mix = Mix()) -> None:
        self.shards, self.mix = shards, mix
        self.rng = np.random.default_rng(seed)

    def sample(self, size: Size, length: int = 1) -> tuple[Image, Image]:
        """Frames (length, H, W, 3) and their alphas (length, H, W)."""
        if self._chance(self.mix.flat):
            frames = flat_shapes(size, length, self.rng)
        elif self._chance(self.mix.nobody):
            rgb, _ = self._background(size, length, hard=0.35)
            frames = [(picture, np.zeros(size, np.uint8)) for picture in rgb]
        elif self._chance(self.mix.composite):
            frames = self._composite(size, length)
        elif length > 1 and self.shards.clips and self._chance(self.mix.real_clip):
            frames = self._clip(size, length)
        else:
            frames = self._lit(self._moving(self._person(), size, length, inside=True))
        degradation = Degradation.draw(self.rng)
        rgb = np.stack([degradation(picture) for picture, _ in frames])  # type: ignore[assignment]
        return rgb, np.stack([alpha for _, alpha in frames])  # type: ignore[return-value]

    def _chance(self, share: float) -> bool:
        return bool(self.rng.random() < share)

    def _wander(self, matrix: Matrix, size: Size, length: int) -> list[Matrix]:
        """The map on each frame of a sequence, slow or fast."""
        pace = HURRY if self.mix.fast and length > 1 and self._chance(self.mix.fast) else 1.0
        return wander(matrix, size, length, self.rng, pace=pace)

    def _pick(self, *kinds: Kind) -> Sample:
        for kind in kinds:
            numbers = self.shards.kinds[kind]
            if numbers:
                return self.shards.items[numbers[self.rng.integers(len(numbers))]]
        raise LookupError(f"the shards hold none of {kinds}")

    def _person(self, *, inside: bool = True) -> Sample:
        """Somebody or something; what is cut out (not `inside`) is no thing that the picture's sides cut off."""
        if self._chance(self.mix.thing):
            for _ in range(8):
                item = self._pick(Kind.THING, Kind.PEOPLE, Kind.BODY)
                if inside or not touches_sides(item.alpha):
                    return item
        kind = Kind(self.rng.choice(3, p=self.mix.kinds))
        return self._pick(kind, Kind.BODY, Kind.PEOPLE)

    def _framing(self, kind: Kind, *, inside: bool) -> Framing:
        """How to show a picture of this kind; clips show people only, unless there are things in the mix."""
        person = kind in (Kind.BODY, Kind.PEOPLE) or (kind != Kind.THING and not self.mix.thing)
        return Framing.draw(self.rng, inside=inside, person=person)

    def _lit(self, frames: Frames, strength: float = 1.0) -> Frames:
        light = Light.draw(self.rng, strength)
        return [(tone(rgb, light), alpha) for rgb, alpha in frames]

    def _moving(self, item: Sample, size: Size, length: int, *, inside: bool, framing: Framing | None = None) -> Frames:
        """A picture seen by a camera that drifts; `inside`: with its own background, else only the person counts."""
        framing = framing or self._framing(item.kind, inside=inside)
        matrix = frame_person(item, size, framing, self.rng)
        if not inside and self._chance(self.mix.tumble) and not is_cut(item.alpha):
            matrix = moved(matrix, size, angle=float(self.rng.normal(0, 60)))
        frames = [warp(item, m, size, inside=inside) for m in self._wander(matrix, size, length)]
        return bent(frames, self.rng) if not inside and self._chance(self.mix.bend) else frames

    def _consecutive(self, clips: list[list[int]], length: int) -> list[Sample]:
        """Neighbouring frames of one of the clips, forwards or backwards."""
        numbers = clips[self.rng.integers(len(clips))]
        start = self.rng.integers(max(1, len(numbers) - length + 1))
        items = [self.shards.items[i] for i in numbers[start : start + length]]
        if self._chance(0.5):
            items.reverse()
        return items + items[-1:] * (length - len(items))

    def _clip(self, size: Size, length: int) -> Frames:
        """Consecutive frames of a real clip under one framing."""
        items = self._consecutive(self.shards.clips, length)
        matrix = frame_person(items[0], size, self._framing(Kind.CLIP, inside=True), self.rng)
        return self._lit([warp(item, matrix, size, inside=True) for item in items])

    def _synthetic_clip(self, size: Size, length: int, framing: Framing | None) -> Frames:
        """Somebody drawn, who moves while the camera drifts."""
        items = self._consecutive(self.shards.synthetic_clips, length)
        matrix = frame_person(items[0], size, framing or self._framing(Kind.SYNTHETIC, inside=False), self.rng)
        if self._chance(self.mix.tumble):
            matrix = moved(matrix, size, angle=float(self.rng.normal(0, 60)))
        drift = self._wander(matrix, size, length)
        return [warp(item, m, size, inside=False) for item, m in zip(items, drift, strict=True)]

    def _somebody(self, size: Size, length: int, framing: Framing | None = None) -> Frames:
        """A person without the place: photographed, or drawn."""
        if self.shards.synthetic_clips and self._chance(
            self.mix.synthetic if length == 1 else self.mix.moving_synthetic
        ):
            return self._synthetic_clip(size, length, framing)
        return self._moving(self._person(inside=False), size, length, inside=False, framing=framing)

    def _composite(self, size: Size, length: int) -> Frames:
        """One or two people before another background."""
        front = self._lit(self._somebody(size, length), 0.7)
        if self._chance(self.mix.hued_person):
            turn = int(self.rng.integers(180))
            front = [(turned_hue(rgb, turn), alpha) for rgb, alpha in front]
        if self._chance(self.mix.back_light):
            gamma = float(self.rng.uniform(1.4, 2.6))
            front = [(darker(rgb, gamma), alpha) for rgb, alpha in front]
        places, drift = self._background(size, length)
        if self._chance(self.mix.hued_place):
            turn = int(self.rng.integers(180))
            places = [turned_hue(place, turn) for place in places]
        if self._chance(self.mix.alike):
            places = self._alike(places, drift, *front[0])
        back = [(rgb, np.zeros(size, np.uint8)) for rgb in places]
        if self._chance(self.mix.crowd) and tallness(front[0][1]) > BEFORE_CROWD * size[0]:
            back = self._before_crowd(back, drift, tallness(front[0][1]) / size[0])
        elif self._chance(self.mix.second):
            back = [over(o, b) for o, b in zip(self._second(size, length), back, strict=True)]
            if tallness(back[0][1]) < BYSTANDER * tallness(front[0][1]):
                back = [(rgb, np.zeros(size, np.uint8)) for rgb, _ in back]
        frames = [over(f, b) for f, b in zip(front, back, strict=True)]
        return self._lit(frames, 0.5) if self._chance(0.5) else frames

    def _second(self, size: Size, length: int) -> Frames:
        """Somebody behind: company, who is kept, or a bystander, who is part of the place."""
        far = Framing("small", inside=False) if self._chance(self.mix.bystander) else None
        return self._lit(self._somebody(size, length, far))

    def _before_crowd(self, back: Frames, drift: list[Matrix], first: float) -> Frames:
        """A row of people who stand in the place, further away than the first one, who is `first` of the view high.

        In a still nothing but size and sharpness says who is in front; in a sequence the crowd rests.
        """
        size = back[0][1].shape
        tall = size[0] * min(float(self.rng.uniform(0.25, 0.8)), first * (0.85 if len(back) == 1 else 1.4))
        foot = size[0] * self.rng.uniform(0.5, 0.95)
        step = tall * self.rng.uniform(0.2, 0.6)
        row: tuple[Image, Image] = np.zeros((*size, 3), np.uint8), np.zeros(size, np.uint8)
        for x in np.arange(-step * self.rng.random(), size[1] + step, step)[:MOST_PEOPLE]:
            item = self._bystander()
            if item is not None:
                matrix = standing(item, x, foot * self.rng.normal(1, 0.03), tall * self.rng.normal(1, 0.1), self.rng)
                row = over(warp(item, matrix, size, inside=False), row)
        row = self._lit([row], 0.7)[0]
        if self._chance(0.6):
            sigma = float(self.rng.uniform(0.5, 3))
            row = cv2.GaussianBlur(row[0], (0, 0), sigma), cv2.GaussianBlur(row[1], (0, 0), sigma)
        here = [warp(Sample(row[0], row[1], Kind.STRIP), path, size, inside=False) for path in onwards(drift)]
        return [(over(people, b)[0], b[1]) for people, b in zip(here, back, strict=True)]

    def _bystander(self) -> Sample | None:
        """Somebody who is whole but for the lower edge; None where there is nobody like that."""
        for _ in range(4):
            if self.shards.synthetic_people and self._chance(0.4):
                frames = self.shards.synthetic_people[self.rng.integers(len(self.shards.synthetic_people))]
                item = self.shards.items[frames[self.rng.integers(len(frames))]]
            else:
                item = self._pick(Kind.BODY if self._chance(0.7) else Kind.PEOPLE, Kind.BODY, Kind.PEOPLE)
            if find_box(item.alpha) is not None and not touches_sides(item.alpha):
                return item
        return None

    def _alike(self, places: list[Image], drift: list[Matrix], rgb: Image, alpha: Image) -> list[Image]:
        """The place in the colors of the person: all of it, patches of it, or something else right behind."""
        manner = str(self.rng.choice(ALIKE, p=self.mix.alike_kinds))
        others = self._along(drift, alpha.shape) if manner == "behind" else places
        table = likeness(others[0], rgb, alpha, self.rng)
        if table is not None and (manner != "behind" or self._chance(0.8)):
            others = [cv2.LUT(other, table) for other in others]
        if manner == "all":
            return others
        here = island(alpha, self.rng) if manner == "behind" else patches(alpha.shape, self.rng)
        return blended(places, others, here, onwards(drift))

    def _along(self, drift: list[Matrix], size: Size) -> list[Image]:
        """Another place, which moves as the first one does."""
        item = folds(size, self.rng) if self._chance(self.mix.painted) else self._place(0.05)
        paths = onwards(drift, frame_whole(item, size, self.rng))
        return [warp(item, path, size, inside=True)[0] for path in paths]

    def _background(self, size: Size, length: int, hard: float = 0.1) -> tuple[list[Image], list[Matrix]]:
        """Pictures of a place without people, of a garment (share `hard`), of folds, or plain; and their maps."""
        if self._chance(0.1):
            bare = ground if self.mix.flat else plain
            return [bare(size, self.rng)] * length, [np.eye(2, 3)] * length
        item = folds(size, self.rng) if self._chance(self.mix.painted) else self._place(hard)
        drift = self._wander(frame_whole(item, size, self.rng), size, length)
        frames = [warp(item, m, size, inside=True) for m in drift]
        if self._chance(self.mix.decoy):
            frames = [over(d, f) for d, f in zip(self._decoy(size, length), frames, strict=True)]
        if self._chance(self.mix.street):
            lines = Sample(*street(size, self.rng), Kind.STRIP)
            frames = [over(warp(lines, m, size, inside=False), f) for m, f in zip(onwards(drift), frames, strict=True)]
        if self._chance(0.25):
            sigma = float(self.rng.uniform(0.6, 5))
            frames = [(cv2.GaussianBlur(rgb, (0, 0), sigma), alpha) for rgb, alpha in frames]
        return [rgb for rgb, _ in self._lit(frames)], drift

    def _place(self, hard: float) -> Sample:
        if self._chance(hard):
            return self._pick(Kind.HARD_NEGATIVE, Kind.BACKGROUND)
        if self._chance(self.mix.inpainted):
            return self._pick(Kind.INPAINTED, Kind.STRIP, Kind.BACKGROUND)
        if self._chance(self.mix.ground):
            return self._pick(Kind.GROUND, Kind.BACKGROUND)
        first, second = (Kind.STRIP, Kind.BACKGROUND) if self._chance(self.mix.strip) else (Kind.BACKGROUND, Kind.STRIP)
        return self._pick(first, second)

    def _decoy(self, size: Size, length: int) -> Frames:
        """The outline of a person filled with something else: a pasted edge alone must not mean a person."""
        filling = self._pick(Kind.BACKGROUND)
        fill, _ = warp(filling, frame_whole(filling, size, self.rng), size, inside=True)
        turned = moved(np.eye(2, 3), size, angle=float(self.rng.uniform(90, 270)))
        shapes = self._moving(self._person(), size, length, inside=False)
        return [(fill, cv2.warpAffine(alpha, turned, size[::-1])) for _, alpha in shapes]


def warp(item: Sample, matrix: Matrix, size: Size, *, inside: bool) -> tuple[Image, Image]:
    """Picture and alpha under a map from the picture to the view; beyond the frame the picture is mirrored."""
    rgb, alpha = item.rgb, item.alpha
    if np.sqrt(abs(np.linalg.det(matrix[:, :2]))) < 0.6:  # half the size first, against aliasing
        rgb, alpha = (cv2.resize(a, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA) for a in (rgb, alpha))
        matrix = matrix * np.array([2, 2, 1])
    mirror = cv2.BORDER_REFLECT_101
    view = cv2.warpAffine(rgb, matrix, size[::-1], flags=cv2.INTER_LINEAR, borderMode=mirror)
    border = mirror if inside else cv2.BORDER_CONSTANT
    return view, cv2.warpAffine(alpha, matrix, size[::-1], flags=cv2.INTER_LINEAR, borderMode=border)


def bent(frames: Frames, rng: np.random.Generator, strength: float = 0.05) -> Frames:
    """All frames under one smooth random distortion: street photos stand upright, dancers do not."""
    h, w = frames[0][1].shape
    grid = rng.normal(0, strength * h, (4, 4, 2)).astype(np.float32)
    field = cv2.resize(grid, (w, h), interpolation=cv2.INTER_CUBIC)
    x, y = np.meshgrid(np.arange(w, dtype=np.float32), np.arange(h, dtype=np.float32))
    x, y = x + field[..., 0], y + field[..., 1]
    return [(cv2.remap(rgb, x, y, cv2.INTER_LINEAR), cv2.remap(alpha, x, y, cv2.INTER_LINEAR)) for rgb, alpha in frames]


def over(front: tuple[Image, Image], back: tuple[Image, Image]) -> tuple[Image, Image]:
    """Front before back. Colors at the edge come from within the front, or its old background would shine through."""
    rgb, alpha = front
    cover = cv2.merge([alpha] * 3) * np.float32(1 / 255)
    sure = cover * cover
    inner = rgb * sure
    spread = cv2.blur(inner, (9, 9)) / (cv2.blur(sure, (9, 9)) + 1e-3)
    color = inner + spread * (1 - sure)
    mixed = back[0] + (color - back[0]) * cover
    union = 255 - cv2.multiply(255 - alpha, 255 - back[1], scale=1 / 255)
    return np.clip(mixed, 0, 255).astype(np.uint8), union


def turned_hue(rgb: Image, turn: int) -> Image:
    """Every color further around the circle by ``turn`` of 180; grays stay."""
    hsv = cv2.cvtColor(rgb, cv2.COLOR_RGB2HSV)
    table = ((np.arange(256) + turn) % 180).astype(np.uint8)
    hsv[..., 0] = cv2.LUT(np.ascontiguousarray(hsv[..., 0]), table)
    return cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB)


def darker(rgb: Image, gamma: float) -> Image:
    """Light from behind: the front loses its bright tones."""
    table = (255 * (np.arange(256) / 255) ** gamma).astype(np.uint8)
    return cv2.LUT(rgb, table)


def tallness(alpha: Image) -> float:
    """How high the person in an alpha is, in pixels."""
    box = find_box(alpha)
    return 0.0 if box is None else box.bottom - box.top
