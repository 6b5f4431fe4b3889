"""Weights into the models folder: fetched from their publishers or a mirror, or taken from files that lie here."""

import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from alphareel.domain.errors import InvalidRequest, NotFound, StorageFailed, WeightsInvalid
from alphareel.matting.weights import Weights, WeightsFile
from alphareel.weights.downloader import Downloader
from alphareel.weights.store import ModelsFolder, hash_of

_CHUNK = 1 << 20


class ProgressListener:
    """What happens on the way; this one looks at nothing."""

    def begin(self, file: WeightsFile) -> None:
        """The next file is begun."""

    def advance(self, done: int, whole: int | None) -> None:
        """So many of its bytes lie there."""

    def wait(self, file: WeightsFile) -> None:
        """Another process is at this file; we wait for it."""

    def finish(self, path: Path, *, new: bool) -> None:
        """It lies there now, or did already."""


@dataclass(frozen=True)
class Installer:
    """Brings weights into a models folder.

    ``mirror``: https address of a copy of a models folder, asked instead of the publishers. ``accepted``: the
    user has accepted the licenses of what is brought.
    """

    folder: ModelsFolder
    accepted: bool = False
    mirror: str | None = None
    watcher: ProgressListener = field(default_factory=ProgressListener)
    downloader: Downloader = field(default_factory=Downloader)

    def pull(self, weights: Weights) -> list[Path]:
        """Fetch what is missing of these weights; files that are there and right stay as they are.

        Raises InvalidRequest when a license has to be accepted first, FetchFailed, FetchRefused, WeightsInvalid,
        StorageFailed.
        """
        self._check_license(weights)
        return [self._bring(weights, file, self._fetch) for file in weights.files]

    def take(self, source: Path, known: Sequence[Weights]) -> list[Path]:
        """Copy the weights among ``known`` that lie in ``source``, a file or a folder, each checked as if fetched.

        A file is known by its name, and by that of its folder where the models folder has one for it. Raises
        NotFound when nothing there is known, and what ``pull`` raises.
        """
        found = list(_recognize(source, known))
        if not found:
            wanted = ", ".join(f.path for w in known for f in w.files)
            raise NotFound(f"{source} holds no weights that are known.", hint=f"Known are {wanted}.")
        for weights, _, _ in found:
            self._check_license(weights)

        def copy_from(path: Path) -> Callable[[WeightsFile], str]:
            return lambda file: self._copy(path, file)

        return [self._bring(weights, file, copy_from(path)) for weights, file, path in found]

    def _check_license(self, weights: Weights) -> None:
        if weights.permissive or self.accepted:
            return
        raise InvalidRequest(
            f"{weights.name} does not come under a permissive license: its code is {weights.code_license}, its weights "
            f"{weights.weights_license}.",
            hint=f"Read {weights.source}; if it suits you, run the command again with --accept-license.",
        )

    def _bring(self, weights: Weights, file: WeightsFile, get: Callable[[WeightsFile], str]) -> Path:
        self.watcher.begin(file)
        with self.folder.claim(file, waiting=lambda: self.watcher.wait(file)):
            there = self.folder.verify(file)
            if there.state == "wrong":
                raise WeightsInvalid(
                    f"{file.path} {there.detail}.", hint=f"Run alphareel models remove {weights.name}, then again."
                )
            if there.state == "ready":
                self.watcher.finish(self.folder.file(file), new=False)
                return self.folder.file(file)
            origin = get(file)
            path = self.folder.settle(file, origin=origin, accepted=self.accepted, weights=weights)
            self.watcher.finish(path, new=True)
            return path

    def _fetch(self, file: WeightsFile) -> str:
        url = f"{self.mirror.rstrip('/')}/{file.path}" if self.mirror else file.url
        known = self.folder.pinned(file) is not None
        part = self.folder.part(file)
        self.downloader.fetch(url, part, size=file.size, safe=known, report=self.watcher.advance)
        return url

    def _copy(self, source: Path, file: WeightsFile) -> str:
        size = source.stat().st_size
        if file.size is not None and size != file.size:
            raise WeightsInvalid(f"{source} has {size} bytes, not {file.size}.", hint="Copy it again.")
        expected = self.folder.pinned(file)
        if expected is not None and hash_of(source) != expected:
            raise WeightsInvalid(f"{source} does not have the SHA-256 {expected}.", hint="Copy it again.")
        part = self.folder.part(file)
        if shutil.disk_usage(part.parent).free < size:
            raise StorageFailed(f"{part.parent} has no room for {size / 1e6:.0f} MB.", hint="Make room.")
        try:
            with source.open("rb") as read, part.open("wb") as written:
                while piece := read.read(_CHUNK):
                    written.write(piece)
                    self.watcher.advance(written.tell(), size)
                written.flush()
                os.fsync(written.fileno())
        except OSError as error:
            raise StorageFailed(f"{source} cannot be copied: {error.strerror or error}.") from error
        return str(source.resolve())


def _recognize(source: Path, known: Sequence[Weights]) -> Iterator[tuple[Weights, WeightsFile, Path]]:
    if not source.exists():
        raise NotFound(f"{source} is not there.")
    absolute = source.absolute()
    paths = sorted(p for p in absolute.rglob("*") if p.is_file()) if absolute.is_dir() else [absolute]
    for weights in known:
        for file in weights.files:
            ending = Path(file.path).parts
            match = next((p for p in paths if p.parts[-len(ending) :] == ending), None)
            if match is not None:
                yield weights, file, match
