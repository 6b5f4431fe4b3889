"""The bundled network for people: small, recurrent. Card: docs/models/builtin.md."""

from pathlib import Path

from alphareel.matting.engine import Engine, ModelInfo
from alphareel.matting.recurrent_model import bundled_reason, load_recurrent_model
from alphareel.matting.runtime import Runtime

INFO = ModelInfo(
    name="builtin",
    version="1",
    subject="people",
    summary="The bundled network: fast, recurrent.",
    code_license="Apache-2.0",
    weights_license="Apache-2.0",
    author_statement=(
        "We made it and may give it: code and weights are Apache-2.0. Whether labels from a GPL network bind "
        "the weights is undecided."
    ),
    training_data=(
        "Labels: masks made by hand, drawn people, mostly predictions of Robust Video Matting (GPL-3.0). "
        "Encoder: EfficientNet-Lite0 (Apache-2.0)."
    ),
    weights="builtin.onnx",
    temporal=True,
    warmup_frames=60,
)

PATH = Path(__file__).with_name("builtin.onnx")
_LARGER_AREA = 512 * 512  # twice the usual: docs/decisions/0053-small-subjects.md


def available(models_dir: Path | None) -> str | None:  # noqa: ARG001 - the contract of model files
    """See ``matting.engine``."""
    return bundled_reason(PATH)


def load(runtime: Runtime) -> Engine:
    """See ``matting.engine``."""
    return load_recurrent_model(INFO, runtime, PATH, larger_area=_LARGER_AREA)
