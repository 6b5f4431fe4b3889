"""The network that ships with alphareel: small, recurrent, cuts out people. Its card: docs/models/builtin.md."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from alphareel.domain.clip import Clip, EngineFacts
from alphareel.domain.errors import ModelUnavailable, WeightsInvalid
from alphareel.domain.options import Options
from alphareel.frame import Frame, Matte
from alphareel.matting.cuts import CutDetector
from alphareel.matting.edges import clean_edges
from alphareel.matting.engine import Engine, Memory, Spec
from alphareel.matting.refine import refine
from alphareel.matting.runtime import Array, Runtime, Session
from alphareel.matting.thumbnail import size_for, thumbnail_of, to_rgb
from alphareel.matting.weights import sha256_of

SPEC = Spec(
    name="builtin",
    version="1",
    subject="people",
    summary="The network inside the package: fast, with memory from frame to frame.",
    code_licence="Apache-2.0",
    weights_licence="Apache-2.0",
    weights="builtin.onnx",
    temporal=True,
)

_PATH = Path(__file__).with_name("builtin.onnx")
_MULTIPLE = 32
_AREA = 256 * 256


def available(models_dir: Path | None) -> str | None:  # noqa: ARG001 - the contract of model files
    """None when the network's file lies in the package."""
    return None if _PATH.is_file() else "The package was built without its network, builtin.onnx."


def load(runtime: Runtime) -> Engine:
    """The engine on the package's own weights."""
    missing = available(runtime.models_dir)
    if missing:
        raise ModelUnavailable(missing, hint="Install alphareel from a complete package.")
    return load_file(runtime, _PATH)


def load_file(runtime: Runtime, path: Path) -> "BuiltinEngine":
    """The engine on another file of the same interface: a network in training, or one made for a test.

    Inputs ``rgb`` float32 (1, 3, H, W) in 0..1, H and W multiples of 32, and ``memory`` float32
    (1, C, H/stride, W/stride), zeros at the start of a shot; outputs ``alpha`` (1, 1, H, W) in 0..1 and
    ``memory_out``. Metadata: ``version``, ``memory_stride`` (16), ``area`` (recommended pixels).
    """
    session = runtime.open(path)
    session.expect(inputs=("rgb", "memory"), outputs=("alpha", "memory_out"))
    channels = session.inputs["memory"][1]
    if channels is None:
        raise WeightsInvalid(f"{path.name} does not say how wide its memory is.", hint="Export it again.")
    facts = EngineFacts(SPEC.name, session.metadata.get("version", SPEC.version), sha256_of(path), SPEC.weights_licence)
    return BuiltinEngine(
        facts,
        runtime,
        path,
        area=_number(session, "area", _AREA),
        stride=_number(session, "memory_stride", 16),
        channels=channels,
    )


@dataclass(frozen=True)
class BuiltinEngine:
    """``area``: pixels of a thumbnail; ``stride`` and ``channels``: shape of the memory."""

    facts: EngineFacts
    runtime: Runtime
    path: Path
    area: int
    stride: int
    channels: int

    def start(self, clip: Clip, options: Options) -> Memory:  # noqa: ARG002 - one network, nothing to choose
        """Fresh memory for one clip."""
        return BuiltinMemory(self, clip)


class BuiltinMemory:
    """What the network remembers of one clip: ``memory`` (1, C, h/stride, w/stride), zeros again at each cut."""

    def __init__(self, engine: BuiltinEngine, clip: Clip) -> None:
        self._session = engine.runtime.open(engine.path)
        self._thumbnail = size_for(clip, area=engine.area, multiple=_MULTIPLE)
        self._matrix, self._full_range = clip.colour.resolved_matrix(clip.height), clip.colour.full_range
        width, height = self._thumbnail
        shape = (1, engine.channels, height // engine.stride, width // engine.stride)
        self._empty: Array = np.zeros(shape, np.float32)
        self._memory = self._empty
        self._cuts = CutDetector()

    @property
    def thumbnail(self) -> tuple[int, int]:
        return self._thumbnail

    def step(self, frames: Sequence[Frame]) -> Sequence[Matte]:
        """One matte for each frame; the network sees the thumbnail, ``refine`` the planes."""
        return [self._matte(frame) for frame in frames]

    def _matte(self, frame: Frame) -> Matte:
        small = thumbnail_of(frame, self._thumbnail)
        if self._cuts.is_cut(small):
            self._memory = self._empty
        rgb = to_rgb(small, matrix=self._matrix, full_range=self._full_range)
        feeds = {"rgb": rgb[None], "memory": self._memory}
        alpha, self._memory = self._session.run(("alpha", "memory_out"), feeds)
        full = refine(np.clip(alpha[0, 0], 0, 1), frame)
        return Matte(clean_edges(frame, full), full)


def _number(session: Session, name: str, default: int) -> int:
    try:
        return int(float(session.metadata.get(name, default)))
    except ValueError as error:
        raise WeightsInvalid(
            f"{session.path.name} says {name} is {session.metadata[name]!r}.", hint="Export it again."
        ) from error
