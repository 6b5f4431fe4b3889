"""What people have on, skin, hair, clothes and shoes: meshes that lie on the body, and their colors."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from body import Body, Numbers, Points
from datasets import Kind
from mesh import Mesh
from noise import Noise
from poses import FINGERS
from shading import Paint
from shards import Image, ShardDataset

ARM, LEG = ("upperarm", "lowerarm", "hand"), ("thigh", "calf", "foot")
THIN = 0.03  # dm that cloth lies off the skin at least
TORSO = ("pelvis", "spine_01", "spine_02", "spine_03", "clavicle_l", "clavicle_r", "Root")
SKINS = (
    (0.86, 0.64, 0.52),
    (0.80, 0.56, 0.42),
    (0.68, 0.45, 0.32),
    (0.52, 0.33, 0.22),
    (0.35, 0.21, 0.14),
    (0.24, 0.14, 0.10),
)
HAIRS = (
    (0.03, 0.025, 0.02),
    (0.10, 0.06, 0.04),
    (0.22, 0.13, 0.07),
    (0.45, 0.30, 0.16),
    (0.62, 0.52, 0.38),
    (0.5, 0.5, 0.5),
)


class Regions:
    """Where on the resting body things are: which bone moves a point, and how far along a limb it lies.

    `arm` is 0..1 on the upper arm, 1..2 on the lower arm, 2..3 on the hand, `leg` likewise on thigh, calf and foot;
    both are -1 elsewhere.
    """

    def __init__(self, body: Body) -> None:
        self.place = body.rest
        self.names = np.array(body.names)[body.weights.argmax(1)]
        self.arm, self.leg = (self._along(body, parts) for parts in (ARM, LEG))
        fingers = [np.char.startswith(self.names, finger) for finger in (*FINGERS, "thumb")]
        self.arm[np.any(fingers, axis=0)] = 2.99
        self.leg[np.char.startswith(self.names, "ball")] = 2.99
        self.torso = np.isin(self.names, TORSO)

    def _along(self, body: Body, parts: tuple[str, ...]) -> NDArray[np.float64]:
        heads, tails = body.heads(body.rest), body.tails(body.rest)
        limb = np.full(len(self.names), -1.0)
        for n, part in enumerate(parts):
            for side in "lr":
                here, bone = self.names == f"{part}_{side}", body.number[f"{part}_{side}"]
                along = tails[bone] - heads[bone]
                limb[here] = n + np.clip((body.rest[here] - heads[bone]) @ along / (along @ along), 0, 0.999)
        return limb

    def top(self, hem: float, sleeve: float, neck: float) -> NDArray[np.bool_]:
        """Shirt from a height on, with sleeves to a place on the arm, open below the neck."""
        y, x = self.place[:, 1], np.abs(self.place[:, 0])
        trunk = self.torso & (y > hem) & ~((y > neck) & (x < 0.9))
        if sleeve < 0:  # without: the shoulders are bare, too
            return trunk & (x < 1.75)
        return trunk | ((self.arm >= 0) & (self.arm < sleeve))

    def bottom(self, waist: float, length: float) -> NDArray[np.bool_]:
        """Trousers up to a height, with legs to a place on the leg."""
        return (self.torso & (self.place[:, 1] < waist)) | ((self.leg >= 0) & (self.leg < length))

    def shoes(self, height: float) -> NDArray[np.bool_]:
        return self.leg > height

    def scalp(self, fringe: float, *, beard: bool) -> NDArray[np.bool_]:
        """Where hair grows; the larger `fringe`, the lower the forehead."""
        x, y, z = self.place.T
        crown = (z < 0.35 + (y - 7.55) * fringe) & ~((np.abs(x) > 0.7) & (y < 7.55)) & (y > 6.75)
        chin = (y < 6.75) & (y > 6.1) & (z > 0.35) if beard else np.zeros(len(y), bool)
        return (self.names == "head") & (crown | chin)


class Fabrics:
    """Colors and patterns, some of them cut from photos of clothed people."""

    def __init__(self, shards: ShardDataset | None) -> None:
        self._shards = shards

    def cloth(self, rng: np.random.Generator) -> Paint:
        """Some fabric."""
        color = rng.uniform(0.02, 0.9, 3) if rng.random() < 0.5 else np.full(3, rng.uniform(0.01, 0.9))
        kind = rng.random()
        pattern = self._cut(rng) if kind < 0.45 else stripes(rng) if kind < 0.6 else None
        return Paint(
            color, pattern, rng.uniform(0.05, 0.3), rng.uniform(0.6, 2.5), rng.uniform(0.1, 0.7), rng.uniform(0, 0.25)
        )

    def _cut(self, rng: np.random.Generator) -> Image | None:
        """A piece from the middle of somebody's clothes."""
        if self._shards is None or not self._shards.kinds[Kind.BODY]:
            return None
        item = self._shards.items[rng.choice(self._shards.kinds[Kind.BODY])]
        inside = cv2.erode((item.alpha > 250).astype(np.uint8), np.ones((25, 25), np.uint8))
        ys, xs = np.nonzero(inside)
        if not len(ys):
            return None
        n = rng.integers(len(ys))
        half = int(rng.integers(8, 13))
        piece = item.rgb[max(0, ys[n] - half) : ys[n] + half, max(0, xs[n] - half) : xs[n] + half]
        piece = np.concatenate([piece, piece[:, ::-1]], 1)
        return np.concatenate([piece, piece[::-1]], 0)


def stripes(rng: np.random.Generator) -> Image:
    """Stripes or a chequered pattern."""
    colors = rng.integers(0, 256, (3, 3))
    across = np.repeat(colors[rng.integers(0, 3, 8)], 4, 0)
    picture = np.broadcast_to(across[:, None], (32, 32, 3)).astype(np.float32)
    if rng.random() < 0.5:
        picture = (picture + picture.transpose(1, 0, 2)) / 2  # type: ignore[assignment]
    return np.ascontiguousarray(picture.transpose(1, 0, 2) if rng.random() < 0.5 else picture).astype(np.uint8)


class Outfit:
    """What one person has on, part by part, from the skin outwards."""

    def __init__(self, body: Body, regions: Regions, fabrics: Fabrics, noise: Noise) -> None:
        self._body, self._regions, self._wardrobe, self._noise = body, regions, fabrics, noise
        self._everything = body.quads("body")[0]

    def draw(self, sex: str, rng: np.random.Generator) -> list[tuple[Mesh, Paint]]:
        """Trunks or a bikini and no more, a summer's day, or fully dressed; perhaps a skirt, shoes, hair."""
        hair = np.array(HAIRS[rng.integers(len(HAIRS))]) * rng.uniform(0.7, 1.3)
        parts, bare = self._skin(hair, rng), rng.random()
        if bare > 0.45:
            parts.append(self._shirt(bare, rng))
        elif sex == "female" or rng.random() < 0.1:
            band = self._regions.top(rng.uniform(2.8, 3.2), -1, 9.0)
            parts.append(self._worn(band & (self._regions.place[:, 1] < rng.uniform(3.9, 4.4)), 0.06, rng))
        length = rng.choice((0.15, 0.35, 0.6, 1.0)) if bare < 0.6 else rng.uniform(0.8, 1.98)
        parts.append(self._worn(self._regions.bottom(rng.uniform(0.8, 1.6), length), rng.uniform(0.05, 0.3), rng))
        if rng.random() < 0.15:
            hem = self._regions.place[:, 1] > rng.uniform(-7, -2)
            parts.append((self._part(self._body.quads("helper-skirt")[0], hem, 0.0), self._wardrobe.cloth(rng)))
        if rng.random() < 0.65:
            parts.append(self._worn(self._regions.shoes(rng.uniform(1.6, 2.05)), rng.uniform(0.08, 0.2), rng))
        return parts + self._hair(hair, rng)

    def _skin(self, hair: Points, rng: np.random.Generator) -> list[tuple[Mesh, Paint]]:
        tone = np.array(SKINS[rng.integers(len(SKINS))]) ** 1.6 * rng.normal(1, 0.08, 3)
        grain, scale, shine = rng.uniform(0.08, 0.25), rng.uniform(0.8, 2), rng.uniform(0.1, 0.5)
        skin = Paint(np.clip(tone, 0.02, 1), None, grain, scale, 0.08, shine, 0.35, brows=hair)
        eyes, white = ("helper-l-eye", "helper-r-eye"), Paint(np.full(3, 0.6), shine=0.4, brows=hair)
        seen = [(self._part(self._body.quads(eye)[0], None, 0.0), white) for eye in eyes]
        return [(self._part(self._everything, None, 0.0), skin), *seen]

    def _shirt(self, bare: float, rng: np.random.Generator) -> tuple[Mesh, Paint]:
        sleeve = rng.choice((-1, 0.5, 0.8, 1.5, 1.95)) if bare < 0.75 else rng.uniform(1.6, 2.0)
        hem = rng.uniform(-0.8, 3.0) if bare < 0.6 else rng.uniform(-1.2, 1.0)
        return self._worn(self._regions.top(hem, sleeve, rng.uniform(4.4, 5.8)), rng.uniform(0.05, 0.35), rng)

    def _hair(self, color: Points, rng: np.random.Generator) -> list[tuple[Mesh, Paint]]:
        if rng.random() < 0.08:
            return []
        paint = Paint(color, None, 0.45, rng.uniform(3, 6), 0.9, 0.12)
        beard = bool(rng.random() < 0.15)
        scalp = self._regions.scalp(rng.uniform(1.2, 2.6), beard=beard)
        cap = self._part(self._everything, scalp, rng.uniform(0.05, 0.45))
        if rng.random() > 0.4:
            return [(cap, paint)]
        _, y, z = self._regions.place.T
        long = (y > rng.uniform(2.0, 6.5)) & ((z < 0.5) | (y > 7.9))
        return [(cap, paint), (self._part(self._body.quads("helper-hair")[0], long, 0.05), paint)]

    def _worn(self, where: NDArray[np.bool_], away: float, rng: np.random.Generator) -> tuple[Mesh, Paint]:
        return self._part(self._everything, where, away), self._wardrobe.cloth(rng)

    def _part(self, quads: Numbers, where: NDArray[np.bool_] | None, away: float) -> Mesh:
        """The quads within a region, lifted `away` dm off the body, in folds."""
        quads = quads if where is None else quads[where[quads].all(1)]
        source, corners = np.unique(quads, return_inverse=True)
        corners = corners.reshape(-1, 4)
        triangles = np.concatenate([corners[:, [0, 1, 2]], corners[:, [0, 2, 3]]])
        place = self._body.rest[source]
        lift = away * (1 + 0.9 * self._noise.octaves(place * 0.8, 2)) if away else np.zeros(len(source))
        return Mesh(source, np.maximum(lift, THIN if away else 0), place, triangles, np.zeros(len(triangles), int))
