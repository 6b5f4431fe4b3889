"""Robust Video Matting (arXiv:2108.11515) on ResNet50. Card: docs/models/rvm_resnet50.md."""

from pathlib import Path

from alphareel.matting.engine import Engine, ModelInfo
from alphareel.matting.models import rvm
from alphareel.matting.runtime import Runtime
from alphareel.matting.weights import Weights, WeightsFile, missing_reason

INFO = ModelInfo(
    name="rvm_resnet50",
    version="1",
    subject="people",
    summary="Robust Video Matting on a large backbone, from a file you download. Slow without a GPU.",
    code_license=rvm.INFO.code_license,
    weights_license=rvm.INFO.weights_license,
    author_statement=(
        "None: issues 191, 281 and 289 ask whether the weights are under GPL-3.0 and may be used commercially, "
        "and have no answer."
    ),
    training_data=(
        "Its authors' training data: VideoMatte240K, Distinctions-646 and others, partly under research licenses."
    ),
    weights="rvm_resnet50*.onnx",
    temporal=True,
    warmup_frames=30,
)

WEIGHTS = Weights(
    name="rvm_resnet50",
    pattern="rvm_resnet50*.onnx",
    code_license=INFO.code_license,
    weights_license=INFO.weights_license,
    source=rvm.WEIGHTS.source,
    files=(
        WeightsFile(
            path="rvm_resnet50_fp32.onnx",
            url="https://github.com/PeterL1n/RobustVideoMatting/releases/download/v1.0.0/rvm_resnet50_fp32.onnx",
        ),
    ),
)


def available(models_dir: Path | None) -> str | None:
    """See ``matting.engine``."""
    return missing_reason(WEIGHTS, models_dir)


def load(runtime: Runtime) -> Engine:
    """See ``matting.engine``."""
    return rvm.load_network(INFO, WEIGHTS, runtime)
