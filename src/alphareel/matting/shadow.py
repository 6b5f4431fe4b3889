"""Keeps the shadows of a subject: black pixels whose alpha is the share of light that the shadow takes away."""

from dataclasses import replace

import cv2
import numpy as np

from alphareel.imaging.frame import Matte, Plane
from alphareel.matting.runtime import Array

# A smaller share of missing light is noise; larger ones are clipped.
MIN_SHADOW = 0.05
MAX_SHADOW = 0.85
# The light on a screen is fitted as a second-order surface, ignoring pixels that are darker than it by this share.
_FIT_ROUNDS = 4
_SHADED = 0.06
MIN_KNOWN = 64


def with_shadow(matte: Matte, shadow: Array, *, black: int) -> Matte:
    """Composite the subject over its shadow. ``shadow``: the share of missing light, 0..1, float32, of any size.

    Transparent pixels become black with the shadow's alpha, opaque ones stay as they are, and soft ones are a mix of
    both (straight alpha). ``black``: the level of black in Y.
    """
    depth = np.asarray(np.clip((shadow - MIN_SHADOW) / (1 - MIN_SHADOW), 0, MAX_SHADOW), np.float32)
    if not depth.any():
        return matte
    frame = matte.frame
    size, half_size = (frame.width, frame.height), (frame.u.shape[1], frame.u.shape[0])
    half_alpha = np.asarray(cv2.resize(matte.alpha, half_size, interpolation=cv2.INTER_AREA), np.uint8)
    full, half = (np.asarray(cv2.resize(depth, s), np.float32) for s in (size, half_size))
    alpha, y = _over_shadow(frame.y, matte.alpha, full, black)
    (_, u), (_, v) = (_over_shadow(p, half_alpha, half, 128) for p in (frame.u, frame.v))
    return Matte(replace(frame, y=y, u=u, v=v, buffer_owner=None), alpha)


def _over_shadow(plane: Plane, alpha: Plane, shadow: Array, dark: int) -> tuple[Plane, Plane]:
    """Alpha of the subject over its shadow, and the plane of that composite. ``dark``: the level of the shadow."""
    subject = alpha.astype(np.float32) / 255
    combined = subject + (1 - subject) * shadow
    share = subject / np.maximum(combined, 1e-3)
    painted = np.where((shadow > 0) & (alpha < 255), dark + (plane - np.float32(dark)) * share, plane)
    return (combined * 255 + 0.5).astype(np.uint8), (painted + 0.5).astype(np.uint8)


def screen_shadow(luma: Array, known: Array, *, black: float) -> Array:
    """The share of missing light on a screen, 0..1 (h, w); 0 where ``known`` is 0 because the screen is hidden.

    The light is a smooth surface fitted to the brighter pixels of the screen. Pixels below it are in shadow.
    """
    pixels = np.flatnonzero(known.reshape(-1) > 0)
    if pixels.size < MIN_KNOWN:
        return np.zeros_like(luma)
    y, x = np.meshgrid(*(np.linspace(-1, 1, n) for n in luma.shape), indexing="ij")
    terms = np.stack([np.ones_like(y), y, x, y * x, y**2, x**2]).reshape(6, -1).T
    levels = luma.reshape(-1) - black
    fitted = pixels
    for _ in range(_FIT_ROUNDS):
        surface = terms @ np.linalg.lstsq(terms[fitted], levels[fitted], rcond=None)[0]
        lit = pixels[levels[pixels] > (1 - _SHADED) * surface[pixels]]
        if lit.size < MIN_KNOWN:
            break
        fitted = lit
    light = np.maximum(surface.reshape(luma.shape), 1)
    return np.asarray(np.where(known > 0, np.clip(1 - (luma - black) / light, 0, 1), 0), np.float32)
