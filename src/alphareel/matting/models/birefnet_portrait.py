"""BiRefNet (Zheng et al., arXiv:2401.03407) for people. Card: docs/models/birefnet_portrait.md."""

from pathlib import Path

from alphareel.matting.engine import Engine, ModelInfo
from alphareel.matting.image_model import Preprocessing, load_image_model
from alphareel.matting.runtime import Runtime
from alphareel.matting.weights import Weights, WeightsFile, missing_reason

INFO = ModelInfo(
    name="birefnet_portrait",
    version="1",
    subject="people",
    summary="BiRefNet for portraits: people and hair, frame by frame with temporal smoothing. Slow without a GPU.",
    code_license="MIT",
    weights_license="MIT",
    author_statement=(
        'Issue 316 (29 July 2026): "All the codes and weights are under the MIT license." Issue 306 (6 June '
        "2026): DIS5K is under a strict license, and several other datasets have the same problem."
    ),
    training_data="Its authors' training data: P3M-10k, a public set of portraits.",
    weights="BiRefNet-portrait*.onnx",
    temporal=True,
    warmup_frames=12,
)

WEIGHTS = Weights(
    name="birefnet_portrait",
    pattern="BiRefNet-portrait*.onnx",
    code_license=INFO.code_license,
    weights_license=INFO.weights_license,
    source="https://github.com/ZhengPeng7/BiRefNet",
    files=(
        WeightsFile(
            path="BiRefNet-portrait-epoch_150.onnx",
            url="https://github.com/danielgatis/rembg/releases/download/v0.0.0/BiRefNet-portrait-epoch_150.onnx",
            size=972_666_916,
            sha256="1ba1c8ff5a7bbfadc8d8d13fb11d7be793f91f23d9d466549e37a854f6668f99",
        ),
    ),
)

# Trained on images resized to 1024x1024, the fixed input size of the published file, with ImageNet's statistics.
PREPROCESSING = Preprocessing(
    mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225), area=1024 * 1024, multiple=32, logits=True
)


def available(models_dir: Path | None) -> str | None:
    """See ``matting.engine``."""
    return missing_reason(WEIGHTS, models_dir)


def load(runtime: Runtime) -> Engine:
    """See ``matting.engine``."""
    return load_image_model(INFO, WEIGHTS, PREPROCESSING, runtime)
