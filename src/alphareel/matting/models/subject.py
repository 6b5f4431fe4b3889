"""The bundled network for any subject: small, recurrent. Card: docs/models/subject.md."""

from pathlib import Path

from alphareel.matting.engine import Engine, ModelInfo
from alphareel.matting.recurrent_model import bundled_reason, load_recurrent_model
from alphareel.matting.runtime import Runtime

INFO = ModelInfo(
    name="subject",
    version="1",
    subject="anything",
    summary="The bundled network for whatever is in front: people, animals, vehicles, products. Fast, recurrent.",
    code_license="Apache-2.0",
    weights_license="Apache-2.0",
    author_statement="We made it and may give it: code and weights are Apache-2.0.",
    training_data=(
        "Labels: masks made by hand, drawn people and things, predictions of U2-Net (Apache-2.0). "
        "Encoder: EfficientNet-Lite0 (Apache-2.0)."
    ),
    weights="subject.onnx",
    temporal=True,
    warmup_frames=60,
)

PATH = Path(__file__).with_name("subject.onnx")
# While the subject is small: docs/decisions/0062-larger-views.md.
_LARGER_AREA = 512 * 512
_SMALL_BELOW = 0.1


def available(models_dir: Path | None) -> str | None:  # noqa: ARG001 - the contract of model files
    """See ``matting.engine``."""
    return bundled_reason(PATH)


def load(runtime: Runtime) -> Engine:
    """See ``matting.engine``."""
    return load_recurrent_model(INFO, runtime, PATH, larger_area=_LARGER_AREA, small_below=_SMALL_BELOW)
