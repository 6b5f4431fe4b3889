"""Shards of labeled pictures on disk: flat bytes that training maps into memory.

A shard is three files: `NAME.rgb` and `NAME.alpha` (uint8, one picture after another, each in its own size)
and `NAME.npy`, an int64 table with one row per picture: offset in pixels, height, width, kind, clip.
`clip` numbers the clip a frame belongs to; -1 stands for a picture without neighbors.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from datasets import Kind

Image = NDArray[Any]  # of uint8; the stubs of OpenCV lose the type
# Numbers of the clips of drawn people; those of cutouts (2000 to 2200) and of other drawn things lie elsewhere.
FIRST_PERSON, LAST_PERSON = 1000, 2000


class Sample(NamedTuple):
    """A labeled picture: rgb (H, W, 3) uint8, alpha (H, W) uint8, what it shows, and its clip (or -1)."""

    rgb: Image
    alpha: Image
    kind: Kind
    clip: int = -1


class ShardWriter:
    """Collects items and writes them in shards of about `size` pictures, named by a stem and a number."""

    def __init__(self, folder: Path, size: int = 200, *, stem: str = "") -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder, self._size, self._stem, self._items, self.shards = folder, size, stem, [], 0

    def add(self, items: list[Sample]) -> None:
        self._items += items
        if len(self._items) >= self._size:
            self.flush()

    def flush(self) -> None:
        """Write what has been collected; the table comes last, so that a reader never sees half a shard."""
        if not self._items:
            return
        rows, offset = [], 0
        stem = self._folder / f"{self._stem}{self.shards:03d}"
        with stem.with_suffix(".rgb").open("wb") as rgb, stem.with_suffix(".alpha").open("wb") as alpha:
            for item in self._items:
                rgb.write(item.rgb.tobytes())
                alpha.write(item.alpha.tobytes())
                rows.append((offset, *item.alpha.shape, item.kind, item.clip))
                offset += item.alpha.size
        table = stem.with_suffix(".part")
        with table.open("wb") as file:
            np.save(file, np.array(rows, np.int64))
        table.rename(stem.with_suffix(".npy"))
        self.shards, self._items = self.shards + 1, []


class ShardDataset:
    """All shards of a folder; `refresh` picks up those written since."""

    def __init__(self, folder: Path) -> None:
        self._folder, self.items = folder, []
        self._seen: set[Path] = set()
        self.refresh()

    def refresh(self) -> bool:
        """Map new shards into memory; True if there were any."""
        fresh = sorted(set(self._folder.glob("*.npy")) - self._seen)
        for table in fresh:
            rgb, alpha = (np.memmap(table.with_suffix(s), np.uint8, "r") for s in (".rgb", ".alpha"))
            self.items += [self._item(row, rgb, alpha) for row in np.load(table)]
            self._seen.add(table)
        self.kinds = {kind: [i for i, item in enumerate(self.items) if item.kind == kind] for kind in Kind}
        clips: dict[int, list[int]] = {}
        for i, item in enumerate(self.items):
            if item.clip >= 0:
                clips.setdefault(item.clip, []).append(i)
        self.clips = [frames for frames in clips.values() if self.items[frames[0]].kind != Kind.SYNTHETIC]
        self.synthetic_clips = [frames for frames in clips.values() if self.items[frames[0]].kind == Kind.SYNTHETIC]
        self.synthetic_people = [f for f in self.synthetic_clips if FIRST_PERSON <= self.items[f[0]].clip < LAST_PERSON]
        return bool(fresh)

    @staticmethod
    def _item(row: NDArray[np.int64], rgb: Image, alpha: Image) -> Sample:
        start, h, w, kind, clip = map(int, row)
        end = start + h * w
        return Sample(rgb[3 * start : 3 * end].reshape(h, w, 3), alpha[start:end].reshape(h, w), Kind(kind), clip)
