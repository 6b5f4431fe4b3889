"""Installs weights into the models folder: downloads them, or imports files that are already on this machine."""

import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from alphareel.domain.errors import InvalidRequest, NotFound, StorageFailed, WeightsInvalid
from alphareel.matting.weights import Weights, WeightsFile
from alphareel.paths import file_sha256
from alphareel.weights.downloader import Downloader
from alphareel.weights.store import ModelsFolder

_BLOCK_BYTES = 1 << 20


class ProgressListener:
    """Callbacks during an installation. The methods of this base class do nothing."""

    def begin(self, file: WeightsFile) -> None:
        """The next file starts."""

    def advance(self, done: int, total: int | None) -> None:
        """``done`` of ``total`` bytes are written."""

    def wait(self, file: WeightsFile) -> None:
        """Another process is installing this file; waiting for it."""

    def finish(self, path: Path, *, new: bool) -> None:
        """The file is installed. ``new``: it was not before."""


@dataclass(frozen=True)
class Installer:
    """Installs weights into a models folder.

    ``mirror``: HTTPS URL of a copy of a models folder, used instead of the publishers. ``accepted``: the user has
    accepted the licenses of the weights.
    """

    folder: ModelsFolder
    accepted: bool = False
    mirror: str | None = None
    listener: ProgressListener = field(default_factory=ProgressListener)
    downloader: Downloader = field(default_factory=Downloader)

    def pull(self, weights: Weights) -> list[Path]:
        """Download the files that are not installed yet.

        Raises InvalidRequest when a license must be accepted first, FetchFailed, FetchRefused, WeightsInvalid, or
        StorageFailed.
        """
        self._check_license(weights)
        return [self._install(weights, file, self._download) for file in weights.files]

    def import_files(self, source: Path, known: Sequence[Weights]) -> list[Path]:
        """Copy the ``known`` weights in ``source``, a file or a folder. They are verified like downloads.

        Files are recognized by name, including the folder that contains them in the models folder. Raises NotFound
        when there are none, and the errors of ``pull``.
        """
        matches = list(_recognize(source, known))
        if not matches:
            names = ", ".join(f.path for w in known for f in w.files)
            raise NotFound(f"{source} contains no known weights.", hint=f"Known files are {names}.")
        for weights, _, _ in matches:
            self._check_license(weights)

        def copy_from(path: Path) -> Callable[[WeightsFile], str]:
            return lambda file: self._copy(path, file)

        return [self._install(weights, file, copy_from(path)) for weights, file, path in matches]

    def _check_license(self, weights: Weights) -> None:
        if weights.permissive or self.accepted:
            return
        raise InvalidRequest(
            f"{weights.name} does not have a permissive license: its code is {weights.code_license}, its weights "
            f"{weights.weights_license}.",
            hint=f"Read {weights.source}. If you accept it, run the command again with --accept-license.",
        )

    def _install(self, weights: Weights, file: WeightsFile, obtain: Callable[[WeightsFile], str]) -> Path:
        self.listener.begin(file)
        with self.folder.lock(file, on_wait=lambda: self.listener.wait(file)):
            status = self.folder.verify(file)
            if status.state == "wrong":
                raise WeightsInvalid(
                    f"{file.path} {status.detail}.", hint=f"Run alphareel models remove {weights.name} and try again."
                )
            if status.state == "ready":
                self.listener.finish(self.folder.file(file), new=False)
                return self.folder.file(file)
            origin = obtain(file)
            path = self.folder.install(file, origin=origin, accepted=self.accepted, weights=weights)
            self.listener.finish(path, new=True)
            return path

    def _download(self, file: WeightsFile) -> str:
        url = f"{self.mirror.rstrip('/')}/{file.path}" if self.mirror else file.url
        has_hash = self.folder.pinned(file) is not None
        part = self.folder.part(file)
        self.downloader.fetch(url, part, size=file.size, resumable=has_hash, on_progress=self.listener.advance)
        return url

    def _copy(self, source: Path, file: WeightsFile) -> str:
        size = source.stat().st_size
        if file.size is not None and size != file.size:
            raise WeightsInvalid(f"{source} has {size} bytes, not {file.size}.", hint="Copy it again.")
        expected = self.folder.pinned(file)
        if expected is not None and file_sha256(source) != expected:
            raise WeightsInvalid(f"{source} does not have the SHA-256 {expected}.", hint="Copy it again.")
        part = self.folder.part(file)
        if shutil.disk_usage(part.parent).free < size:
            raise StorageFailed(f"{part.parent} has no space for {size / 1e6:.0f} MB.", hint="Free some space.")
        try:
            with source.open("rb") as reader, part.open("wb") as writer:
                while data := reader.read(_BLOCK_BYTES):
                    writer.write(data)
                    self.listener.advance(writer.tell(), size)
                writer.flush()
                os.fsync(writer.fileno())
        except OSError as error:
            raise StorageFailed(f"{source} cannot be copied: {error.strerror or error}.") from error
        return str(source.resolve())


def _recognize(source: Path, known: Sequence[Weights]) -> Iterator[tuple[Weights, WeightsFile, Path]]:
    if not source.exists():
        raise NotFound(f"There is no file or folder {source}.", hint="Check the path.")
    absolute = source.absolute()
    paths = sorted(p for p in absolute.rglob("*") if p.is_file()) if absolute.is_dir() else [absolute]
    for weights in known:
        for file in weights.files:
            suffix = Path(file.path).parts
            match = next((p for p in paths if p.parts[-len(suffix) :] == suffix), None)
            if match is not None:
                yield weights, file, match
