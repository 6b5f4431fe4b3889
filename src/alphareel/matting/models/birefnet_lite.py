"""BiRefNet (Zheng et al., arXiv:2401.03407) on a small backbone. Card: docs/models/birefnet_lite.md."""

from pathlib import Path

from alphareel.matting.engine import Engine, ModelInfo
from alphareel.matting.image_model import Preprocessing, load_image_model
from alphareel.matting.runtime import Runtime
from alphareel.matting.weights import Weights, WeightsFile, missing_reason

INFO = ModelInfo(
    name="birefnet_lite",
    version="1",
    subject="anything",
    summary="BiRefNet on a small backbone: the foreground of any image, at about half the cost of the large one.",
    code_license="MIT",
    weights_license="MIT",
    author_statement=(
        'Issue 316 (29 July 2026): "All the codes and weights are under the MIT license." Issue 306 (6 June '
        "2026): DIS5K is under a strict license, and several other datasets have the same problem."
    ),
    training_data="Its authors' training data: DIS5K and other public datasets, most of them published for research.",
    weights="BiRefNet-general-bb_swin_v1_tiny*.onnx",
    temporal=True,
    warmup_frames=12,
)

WEIGHTS = Weights(
    name="birefnet_lite",
    pattern="BiRefNet-general-bb_swin_v1_tiny*.onnx",
    code_license=INFO.code_license,
    weights_license=INFO.weights_license,
    source="https://github.com/ZhengPeng7/BiRefNet",
    files=(
        WeightsFile(
            path="BiRefNet-general-bb_swin_v1_tiny-epoch_232.onnx",
            url="https://github.com/danielgatis/rembg/releases/download/v0.0.0/BiRefNet-general-bb_swin_v1_tiny-epoch_232.onnx",
            size=224_005_088,
            sha256="5600024376f572a557870a5eb0afb1e5961636bef4e1e22132025467d0f03333",
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
