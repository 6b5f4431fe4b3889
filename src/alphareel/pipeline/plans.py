"""Plans of corrections: what those of one frame change. The corrected matte carries them, so none is made twice."""

import hashlib
import json
import struct
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Self

import numpy as np

from alphareel import __version__
from alphareel.domain.corrections import Correction
from alphareel.imaging.frame import Plane
from alphareel.matting import features
from alphareel.matting.correction import FramePatch
from alphareel.media.source import LIBRARY_VERSIONS
from alphareel.paths import file_sha256

MAX_BYTES = 64 * 2**20  # of all plans in a matte
_PREFIX = "plan-"
_LEVEL = 1  # of zlib: patches are mostly flat


@dataclass(frozen=True)
class CorrectionPlan:
    """What the corrections of one frame change in the frames from tick ``start`` up to, and without, ``end``.

    Spreading goes from frame to frame, so what a plan says of a part of its frames does not depend on the others.
    ``patches``: by tick, in ascending order.
    """

    start: int
    end: int
    patches: Mapping[int, FramePatch]

    def covers(self, start: int, end: int) -> bool:
        return self.start <= start and end <= self.end

    def within(self, start: int, end: int) -> Iterator[tuple[int, FramePatch]]:
        return ((tick, patch) for tick, patch in self.patches.items() if start <= tick < end)

    def pack(self) -> bytes:
        ticks = list(self.patches)
        exact = {tick: patch.exact for tick, patch in self.patches.items() if patch.exact is not None}
        planes = [plane for patch in self.patches.values() for plane in (patch.alpha, patch.weight)]
        header = {
            "start": self.start,
            "end": self.end,
            "ticks": ticks,
            "shape": [] if not planes else list(planes[0].shape),
            "exact": {str(tick): list(plane.shape) for tick, plane in exact.items()},
        }
        text = json.dumps(header).encode()
        data = b"".join(plane.tobytes() for plane in (*planes, *exact.values()))
        return struct.pack("<I", len(text)) + text + zlib.compress(data, _LEVEL)

    @classmethod
    def unpack(cls, packed: bytes) -> Self:
        """Raises ValueError, KeyError, TypeError, struct.error or zlib.error for other bytes."""
        (length,) = struct.unpack_from("<I", packed)
        header: dict[str, Any] = json.loads(packed[4 : 4 + length])
        shapes = [tuple(header["shape"])] * (2 * len(header["ticks"])) + list(map(tuple, header["exact"].values()))
        size = sum(height * width for height, width in shapes)
        decompressor = zlib.decompressobj()
        data = np.frombuffer(decompressor.decompress(packed[4 + length :], size + 1), np.uint8)
        if len(data) != size:
            raise ValueError("The plan has another length.")
        ends = np.cumsum([height * width for height, width in shapes])[:-1]
        planes: list[Plane] = [
            part.reshape(shape) for part, shape in zip(np.split(data, ends), shapes, strict=True) if shape
        ]
        exact = dict(zip(map(int, header["exact"]), planes[2 * len(header["ticks"]) :], strict=True))
        patches = {
            int(tick): FramePatch(planes[2 * n], planes[2 * n + 1], exact.get(int(tick)))
            for n, tick in enumerate(header["ticks"])
        }
        return cls(int(header["start"]), int(header["end"]), patches)


@dataclass
class PlanStore:
    """Packed plans by name. ``known``: of the revision before; ``used``: those of this one.

    A name says all that a plan depends on, apart from the frames that it covers.
    """

    known: Mapping[str, bytes]
    base: str
    used: dict[str, bytes]

    @classmethod
    def open(cls, known: Mapping[str, bytes], source: Path, matte: Path, *, threads: int | None) -> Self:
        parts = [
            __version__,
            LIBRARY_VERSIONS,
            file_sha256(features.PATH),
            file_sha256(source),
            file_sha256(matte),
            threads,
        ]
        return cls(known, json.dumps(parts), {})

    def name(self, tick: int, corrections: Sequence[Correction]) -> str:
        values = [
            asdict(each if each.mask is None else replace(each, mask=file_sha256(Path(each.mask))))
            for each in corrections
        ]
        content = json.dumps([self.base, tick, values], sort_keys=True)
        return f"{_PREFIX}{hashlib.sha256(content.encode()).hexdigest()}"

    def find(self, name: str, start: int, end: int) -> CorrectionPlan | None:
        """The known plan of this name, if it covers these frames."""
        packed = self.known.get(name)
        if packed is None:
            return None
        try:
            plan = CorrectionPlan.unpack(packed)
        except (ValueError, KeyError, TypeError, struct.error, zlib.error):
            return None
        if not plan.covers(start, end):
            return None
        self._keep(name, packed)
        return plan

    def add(self, name: str, plan: CorrectionPlan) -> None:
        self._keep(name, plan.pack())

    def _keep(self, name: str, packed: bytes) -> None:
        if sum(map(len, self.used.values())) + len(packed) <= MAX_BYTES:
            self.used[name] = packed


def plans_in(attachments: Mapping[str, bytes]) -> dict[str, bytes]:
    """The packed plans among the attachments of a matte."""
    return {name: data for name, data in attachments.items() if name.startswith(_PREFIX)}
