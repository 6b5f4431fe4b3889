"""Shadows that go along with their subject: black, as transparent as the light that is left."""

from dataclasses import replace

import cv2
import numpy as np

from alphareel.imaging.frame import Frame, Matte, Plane
from alphareel.matting.runtime import Array

# What is darker by less is noise; the deepest shadow that is believed.
_FAINT = 0.05
_DEEP = 0.85
# How the light over a screen is fitted: a surface of second order, without what lies this much below it.
_ROUNDS = 4
_SHADED = 0.06
_LEAST_KNOWN = 64


def with_shadow(matte: Matte, shadow: Array, *, black: int) -> Matte:
    """The matte with a shadow under its subject. ``shadow``: share of light that is missing, 0..1, of any size.

    Where the subject is transparent the picture becomes black with the shadow's alpha; where it is opaque nothing
    changes; between, both are mixed (straight alpha).
    """
    deep = np.asarray(np.clip((shadow - _FAINT) / (1 - _FAINT), 0, _DEEP), np.float32)
    if not deep.any():
        return matte
    frame = matte.frame
    size, half_size = (frame.width, frame.height), (frame.u.shape[1], frame.u.shape[0])
    half_alpha = np.asarray(cv2.resize(matte.alpha, half_size, interpolation=cv2.INTER_AREA), np.uint8)
    full, half = (np.asarray(cv2.resize(deep, s), np.float32) for s in (size, half_size))
    alpha, y = _under(frame.y, matte.alpha, full, black)
    (_, u), (_, v) = (_under(p, half_alpha, half, 128) for p in (frame.u, frame.v))
    return Matte(_repainted(frame, y, u, v), alpha)


def _repainted(frame: Frame, y: Plane, u: Plane, v: Plane) -> Frame:
    return replace(frame, y=y, u=u, v=v, buffer_owner=None)


def _under(plane: Plane, alpha: Plane, shadow: Array, dark: int) -> tuple[Plane, Plane]:
    """Alpha of subject over shadow, and the plane's color in it."""
    subject = alpha.astype(np.float32) / 255
    both = subject + (1 - subject) * shadow
    share = subject / np.maximum(both, 1e-3)
    painted = np.where((shadow > 0) & (alpha < 255), dark + (plane - np.float32(dark)) * share, plane)
    return (both * 255 + 0.5).astype(np.uint8), (painted + 0.5).astype(np.uint8)


def screen_shadow(luma: Array, known: Array, *, black: float) -> Array:
    """Share of light that is missing on a screen, 0..1 (h, w), 0 where no screen is seen (``known`` 0).

    The light of the screen is a smooth surface through its brighter places; a shadow is what lies below it.
    """
    places = np.flatnonzero(known.reshape(-1) > 0)
    if places.size < _LEAST_KNOWN:
        return np.zeros_like(luma)
    down, across = np.meshgrid(*(np.linspace(-1, 1, n) for n in luma.shape), indexing="ij")
    terms = np.stack([np.ones_like(down), down, across, down * across, down**2, across**2]).reshape(6, -1).T
    levels = luma.reshape(-1) - black
    chosen = places
    for _ in range(_ROUNDS):
        surface = terms @ np.linalg.lstsq(terms[chosen], levels[chosen], rcond=None)[0]
        lit = places[levels[places] > (1 - _SHADED) * surface[places]]
        if lit.size < _LEAST_KNOWN:
            break
        chosen = lit
    light = np.maximum(surface.reshape(luma.shape), 1)
    return np.asarray(np.where(known > 0, np.clip(1 - (luma - black) / light, 0, 1), 0), np.float32)
