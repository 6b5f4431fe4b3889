"""MODNet (Ke et al., arXiv:2011.11961): people, frame by frame. Card: docs/models/modnet.md."""

from pathlib import Path

from alphareel.matting.engine import Engine, ModelInfo
from alphareel.matting.image_model import Preprocessing, load_image_model
from alphareel.matting.runtime import Runtime
from alphareel.matting.weights import Weights, WeightsFile, missing_reason

INFO = ModelInfo(
    name="modnet",
    version="1",
    subject="people",
    summary="MODNet: portraits with fine hair, frame by frame with temporal smoothing. Code and weights: Apache-2.0.",
    code_license="Apache-2.0",
    weights_license="Apache-2.0",
    author_statement="The repository puts code, models and demos under Apache-2.0.",
    training_data="Its authors' training data is partly under research licenses.",
    weights="modnet*.onnx",
    temporal=True,
    warmup_frames=12,
)

WEIGHTS = Weights(
    name="modnet",
    pattern="modnet*.onnx",
    code_license=INFO.code_license,
    weights_license=INFO.weights_license,
    source="https://huggingface.co/Xenova/modnet",
    files=(
        WeightsFile(
            path="modnet.onnx",
            url="https://huggingface.co/Xenova/modnet/resolve/fa2fa546052fba4c08921230a26cc69a333fca12/onnx/model.onnx",
            size=25_888_640,
            sha256="07c308cf0fc7e6e8b2065a12ed7fc07e1de8febb7dc7839d7b7f15dd66584df9",
        ),
    ),
)

PREPROCESSING = Preprocessing(mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5), area=512 * 512, multiple=32, logits=False)


def available(models_dir: Path | None) -> str | None:
    """See ``matting.engine``."""
    return missing_reason(WEIGHTS, models_dir)


def load(runtime: Runtime) -> Engine:
    """See ``matting.engine``."""
    return load_image_model(INFO, WEIGHTS, PREPROCESSING, runtime)
