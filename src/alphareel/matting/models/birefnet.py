"""BiRefNet (Zheng et al., arXiv:2401.03407), general: any foreground. Card: docs/models/birefnet.md."""

from pathlib import Path

from alphareel.matting.engine import Engine, ModelInfo
from alphareel.matting.image_model import Preprocessing, load_image_model
from alphareel.matting.runtime import Runtime
from alphareel.matting.weights import Weights, WeightsFile, missing_reason

INFO = ModelInfo(
    name="birefnet",
    version="1",
    subject="anything",
    summary="BiRefNet: any foreground in fine detail, frame by frame with temporal smoothing. Slow without a GPU.",
    code_license="MIT",
    weights_license="MIT",
    author_statement=(
        'Issue 316 (29 July 2026): "All the codes and weights are under the MIT license." Issue 306 (6 June '
        "2026): DIS5K is under a strict license, and several other datasets have the same problem."
    ),
    training_data="Its authors' training data: DIS5K and other public datasets, most of them published for research.",
    weights="BiRefNet-general-epoch*.onnx",
    temporal=True,
    warmup_frames=12,
)

WEIGHTS = Weights(
    name="birefnet",
    pattern="BiRefNet-general-epoch*.onnx",
    code_license=INFO.code_license,
    weights_license=INFO.weights_license,
    source="https://github.com/ZhengPeng7/BiRefNet",
    files=(
        WeightsFile(
            path="BiRefNet-general-epoch_244.onnx",
            url="https://github.com/danielgatis/rembg/releases/download/v0.0.0/BiRefNet-general-epoch_244.onnx",
            size=972_666_916,
            sha256="58f621f00f5d756097615970a88a791584600dcf7c45b18a0a6267535a1ebd3c",
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
