"""What a sink is, what a format is, and how formats are found by name or suffix. Encodes nothing itself."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol, TypeAlias

from alphareel import plugins
from alphareel.domain.clip import AlphaKind, Chunk, Clip
from alphareel.domain.errors import InvalidRequest
from alphareel.domain.options import Quality
from alphareel.imaging.frame import Frame, Plane
from alphareel.media.chunks import PacketIndex
from alphareel.media.verify import ExpectedOutput, Verified

_FORMATS = "alphareel.media.formats"
_ALSO_NAMED = {"apng": (".png",)}  # suffixes of other formats that a format is commonly named with


@dataclass(frozen=True)
class Target:
    """What to write, and where.

    ``clip``: the facts of the source (time base, rate, color); ``width``/``height``: of the frames to come, even.
    ``moment``: seconds at which a still is taken, None for the best frame. ``quality``: how much of it to keep, in
    the format's own terms. ``source``: the file whose sound goes along, None for silence. ``seconds``: where the
    sound ends at the latest. ``overwrite``: a file that has the name by then is replaced, else it stays.
    """

    path: Path
    clip: Clip
    width: int
    height: int
    has_alpha: bool
    source: Path | None = None
    seconds: float | None = None
    quality: Quality = "balanced"
    moment: float | None = None
    overwrite: bool = False


class Sink(Protocol):
    """A result being written beside its place, under a temporary name, until ``publish`` moves it there."""

    @property
    def path(self) -> Path:
        """Where the file lies until it is published."""

    @property
    def warnings(self) -> tuple[str, ...]:
        """What could not be taken along (sound that is damaged), final after ``finish``."""

    def write(self, frame: Frame, alpha: Plane | None) -> None:
        """Take the next frame; ``alpha`` (H, W) exactly when the target has alpha. Its arrays may be kept a while.

        Raises StorageFailed (no space), OutOfMemory, InternalError; ``abort`` after that.
        """

    def finish(self) -> ExpectedOutput:
        """Write what is left. Returns what ``verify`` should find in the file at ``path``."""

    def secure(self) -> None:
        """Make the finished file durable. Raises StorageFailed."""

    def publish(self) -> None:
        """Make the file durable and give it its name; for a file that ``verify`` believes.

        Raises StorageFailed, and TargetExists when another file has the name and must stay.
        """

    def abort(self) -> None:
        """Leave nothing behind; safe after ``publish`` (which keeps its file) and twice."""


@dataclass(frozen=True)
class ChunkFile:
    """A chunk as it was made: a silent result of its own, from zero, with so many frames."""

    path: Path
    chunk: Chunk
    frames: int


@dataclass(frozen=True)
class Joined:
    """A result that was put together, under its name. ``warnings``: those of ``Sink``."""

    verified: Verified
    warnings: tuple[str, ...]


Join: TypeAlias = Callable[[Target, Sequence[ChunkFile], PacketIndex], Joined]
"""Raises what ``verify`` and a sink raise, InternalError when the chunks do not belong together."""


@dataclass(frozen=True)
class Format:
    """An output format. ``alpha``, ``audio``: it can carry them. ``open`` begins a result.

    ``alpha_kind``: how a result with alpha holds it. ``sides``: pixels that the longer side has at most for a
    quality; the source's for those left out. ``missing``: why it cannot be written on this machine, None where
    it can. ``still``: it is one frame of the run, not all of them.
    ``join``: puts chunks of a result behind each other, None where they cannot be.
    ``suffix_implies``: the suffix alone means this format; one of a suffix does, the others are asked for by name.
    """

    name: str
    suffix: str
    mime: str
    alpha: bool
    audio: bool
    open: Callable[[Target], Sink]
    suffix_implies: bool = True
    alpha_kind: AlphaKind = "straight"
    sides: Mapping[Quality, int] = field(default_factory=dict)
    still: bool = False
    missing: Callable[[], str | None] = lambda: None
    join: Join | None = None


def formats() -> tuple[str, ...]:
    """Names of all formats."""
    return plugins.names(_FORMATS)


def format_named(name: str) -> Format:
    """The format of this name. Raises InvalidRequest, naming those that there are."""
    if name not in formats():
        raise InvalidRequest(f"There is no format {name!r}.", hint=f"Choose one of {', '.join(formats())}.")
    found: Format = plugins.module(_FORMATS, name).FORMAT
    return found


def check_suffix(path: Path, format_name: str) -> None:
    """Refuse a name that says another format than the file would hold. Raises InvalidRequest."""
    made, suffix = format_named(format_name), path.suffix.lower()
    fitting = {made.suffix, *_ALSO_NAMED.get(made.name, ())}
    if suffix not in fitting and suffix in {format_named(name).suffix for name in formats()}:
        raise InvalidRequest(
            f"The format {format_name} does not belong into {path}.",
            hint=f"Name the file {path.stem}{made.suffix}, or leave the format out: it follows from the suffix.",
        )


def format_for_suffix(suffix: str) -> Format:
    """The format that files with this suffix (".webm") hold. Raises InvalidRequest, naming the known suffixes."""
    known = {made.suffix: made for made in map(format_named, formats()) if made.suffix_implies}
    if suffix.lower() not in known:
        raise InvalidRequest(f"No format is written to {suffix or 'a file without suffix'}.",
                             hint=f"Use one of {', '.join(sorted(known))}.")  # fmt: skip
    return known[suffix.lower()]
