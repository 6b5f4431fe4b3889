"""A few mattes kept aside while a result is written, to compare with what the file holds afterwards."""

from fractions import Fraction

import numpy as np

from alphareel.imaging.frame import Plane

# Encoders place a key frame every 150 frames: these can be reached again by decoding few others.
GOP = 150
OPAQUE_FROM = 128  # alpha from which a pixel counts as opaque where there is only one bit for it
_EARLY = (0, 12)
_MOST = 4


class Samples:
    """Keeps the alpha of frames 0 and 12 and of at most four later ones, spread over the clip however long it is."""

    def __init__(self, *, one_bit: bool = False) -> None:
        self._one_bit = one_bit
        self._early: list[tuple[Fraction, Plane]] = []
        self._later: list[tuple[Fraction, Plane]] = []
        self._step = GOP

    @property
    def kept(self) -> tuple[tuple[Fraction, Plane], ...]:
        """(moment in seconds, alpha) in order."""
        return (*self._early, *self._later)

    def offer(self, index: int, moment: Fraction, alpha: Plane | None) -> None:
        """Show the sampler a frame's alpha; it copies what it keeps."""
        if alpha is None:
            return
        if index in _EARLY:
            self._early.append((moment, self._copy(alpha)))
        elif index % self._step == 0:
            self._later.append((moment, self._copy(alpha)))
            if len(self._later) > _MOST:
                self._later = self._later[1::2]
                self._step *= 2

    def _copy(self, alpha: Plane) -> Plane:
        if not self._one_bit:
            return alpha.copy()
        return np.where(alpha >= OPAQUE_FROM, np.uint8(255), np.uint8(0))
