"""BiRefNet (Zheng et al., arXiv:2401.03407) on a small backbone. Its card: docs/models/birefnet_lite.md."""

from pathlib import Path

from alphareel.matting.engine import Engine, Spec
from alphareel.matting.picture_network import Recipe, load_picture_network
from alphareel.matting.runtime import Runtime
from alphareel.matting.weights import Weights, WeightsFile, reason_without

SPEC = Spec(
    name="birefnet_lite",
    version="1",
    subject="anything",
    summary="BiRefNet on a small backbone: the foreground of any picture, about half the work of the large one.",
    code_licence="MIT",
    weights_licence="MIT",
    weights="BiRefNet-general-bb_swin_v1_tiny*.onnx",
    temporal=True,
    settles=12,
)

WEIGHTS = Weights(
    name="birefnet_lite",
    pattern="BiRefNet-general-bb_swin_v1_tiny*.onnx",
    code_licence=SPEC.code_licence,
    weights_licence=SPEC.weights_licence,
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

# The network was trained on pictures squeezed to 1024x1024, which its published file insists on, in ImageNet's colours.
RECIPE = Recipe(mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225), area=1024 * 1024, multiple=32, logits=True)


def available(models_dir: Path | None) -> str | None:
    """None when its file lies in the models folder."""
    return reason_without(WEIGHTS, models_dir)


def load(runtime: Runtime) -> Engine:
    """The engine on that file."""
    return load_picture_network(SPEC, WEIGHTS, RECIPE, runtime)
