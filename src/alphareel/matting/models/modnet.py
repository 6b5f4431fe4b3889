"""MODNet (Ke et al., arXiv:2011.11961): people, each frame by itself, permissive. Card: docs/models/modnet.md."""

from pathlib import Path

from alphareel.matting.engine import Engine, Spec
from alphareel.matting.picture_network import Recipe, load_picture_network
from alphareel.matting.runtime import Runtime
from alphareel.matting.weights import Weights, WeightsFile, reason_without

SPEC = Spec(
    name="modnet",
    version="1",
    subject="people",
    summary="MODNet: portraits with fine hair, frame by frame, steadied; code and weights under Apache-2.0.",
    code_licence="Apache-2.0",
    weights_licence="Apache-2.0",
    weights="modnet*.onnx",
    temporal=True,
    settles=12,
)

WEIGHTS = Weights(
    name="modnet",
    pattern="modnet*.onnx",
    code_licence=SPEC.code_licence,
    weights_licence=SPEC.weights_licence,
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

RECIPE = Recipe(mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5), area=512 * 512, multiple=32, logits=False)


def available(models_dir: Path | None) -> str | None:
    """None when its file lies in the models folder."""
    return reason_without(WEIGHTS, models_dir)


def load(runtime: Runtime) -> Engine:
    """The engine on that file."""
    return load_picture_network(SPEC, WEIGHTS, RECIPE, runtime)
