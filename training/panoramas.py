"""Views of rooms, streets and open country from panoramas in high dynamic range (Poly Haven, CC0).

The panoramas come from a package on npm, as OpenEXR files in base64, 512 x 256 pixels each.
"""

from __future__ import annotations

import base64
import hashlib
import re
import tarfile
import tempfile
import urllib.request
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import OpenEXR
from numpy.typing import NDArray

Image = NDArray[Any]  # of uint8; the stubs of OpenCV lose the type

PACKAGE = "https://registry.npmjs.org/@pmndrs/assets/-/assets-1.7.0.tgz"  # CC0-1.0
SHA512 = "zHmKNS+3Jvu9K3zJBQfYQKT9Pn9IQt8s0q/eJC3CXKpWpyg6IBa+ivN9NgDn+fDT2AVjUh2YRZ//GXUueuAdCg=="
# A lamp stands in front in "studio"; "bridge" is among the scenes that choose between networks.
WITHOUT = frozenset({"bridge", "studio"})
VIEWS = 5  # of each panorama, beside the band around its horizon
SIZE = (256, 400)  # of a view
SUN = 10.0  # radiance of what is near the sun
BRIGHTEST = 64.0  # times the mean: what is brighter is the sun


def views(seed: int = 5) -> Iterator[tuple[str, Image]]:
    """Names and RGB pictures (H, W, 3): of each panorama the band around the horizon, and what a camera would see."""
    rng = np.random.default_rng(seed)
    for name, radiance in panoramas():
        if name in WITHOUT:
            continue
        picture = tone_mapped(radiance)
        height, width = picture.shape[:2]
        band = picture[round(0.16 * height) : round(0.84 * height)]
        yield f"{name}-band", cv2.resize(band, None, fx=1.3, fy=1.3, interpolation=cv2.INTER_CUBIC)
        for n in range(VIEWS):
            yaw = 2 * np.pi * (n + rng.random()) / VIEWS
            pitch, field = np.radians(rng.uniform(-14, 6)), np.radians(rng.uniform(85, 120))
            x, y = directions(SIZE, yaw, pitch, field)
            yield f"{name}-{n}", cv2.remap(picture, x * width, y * height, cv2.INTER_LINEAR, borderMode=cv2.BORDER_WRAP)


def panoramas() -> Iterator[tuple[str, NDArray[np.float32]]]:
    """Names and linear RGB (H, W, 3) of the package's panoramas; its checksum is verified."""
    with urllib.request.urlopen(PACKAGE) as answer:
        data = answer.read()
    if base64.b64encode(hashlib.sha512(data).digest()).decode() != SHA512:
        raise SystemExit(f"{PACKAGE} is not the file that was looked at")
    with tarfile.open(fileobj=BytesIO(data)) as box, tempfile.TemporaryDirectory() as scratch:
        for name in sorted(n for n in box.getnames() if n.endswith(".exr.js")):
            script = box.extractfile(name)
            found = re.search(rb"base64,([A-Za-z0-9+/=]+)", script.read() if script else b"")
            if found is None:
                raise SystemExit(f"{name} of {PACKAGE} holds no picture")
            path = Path(scratch) / "panorama.exr"
            path.write_bytes(base64.b64decode(found[1]))
            yield Path(name).name.removesuffix(".exr.js"), read(path)


def read(path: Path) -> NDArray[np.float32]:
    """Linear RGB (H, W, 3) of an OpenEXR file, at most 6e4. Where some files have a hole for the sun, it is filled."""
    with OpenEXR.File(str(path)) as file:
        channels = file.channels()
        together = next((channels[c].pixels for c in ("RGB", "RGBA") if c in channels), None)
        found = together[..., :3] if together is not None else np.stack([channels[c].pixels for c in "RGB"], axis=-1)
    rgb = np.asarray(np.clip(np.nan_to_num(found.astype(np.float32), posinf=6e4), 0, 6e4), np.float32)
    closed = cv2.morphologyEx(rgb, cv2.MORPH_CLOSE, np.ones((11, 11), np.uint8))
    return np.asarray(np.where(closed.max(axis=-1, keepdims=True) > SUN, closed, rgb), np.float32)


def tone_mapped(radiance: NDArray[np.float32]) -> Image:
    """Linear light as sRGB-like bytes, by the operator of Reinhard et al., *Photographic Tone Reproduction* (2002)."""
    luminance = radiance @ np.array([0.2126, 0.7152, 0.0722], np.float32)
    light = np.minimum(radiance * (0.2 / np.exp(np.log(luminance + 1e-4).mean())), BRIGHTEST)
    light = light * (1 + light / 16) / (1 + light)
    return np.asarray(np.clip(light, 0, 1) ** (1 / 2.2) * 255, np.uint8)


def directions(
    size: tuple[int, int], yaw: float, pitch: float, field: float
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Where a camera's pixels lie in an equirectangular picture: x and y (H, W) in 0..1. Angles in radians."""
    height, width = size
    row, column = np.mgrid[:height, :width].astype(np.float32)
    right, up, ahead = column - width / 2, height / 2 - row, 0.5 * width / np.tan(field / 2)
    up, ahead = np.cos(pitch) * up + np.sin(pitch) * ahead, np.cos(pitch) * ahead - np.sin(pitch) * up
    longitude = np.arctan2(right, ahead) + yaw
    latitude = np.arctan2(up, np.hypot(right, ahead))
    return ((longitude / (2 * np.pi) + 0.5) % 1).astype(np.float32), (0.5 - latitude / np.pi).astype(np.float32)
