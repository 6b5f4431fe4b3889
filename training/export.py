"""Write trained weights as the ONNX file that the package ships, and check it against them.

    python export.py --weights runs/second/half.pt runs/second/half.pt runs/second/ema.pt

Of several files of weights it takes the mean; one that is named twice counts twice. They are those of one run, or
exported files of runs that went on from one file.

Inputs `rgb` float32 (1, 3, H, W) in 0..1, H and W multiples of 32, and `memory` float32 (1, C, H/16, W/16), zeros
at the start of a shot; outputs `alpha` (1, 1, H, W) in 0..1 and `memory_out`, to be given with the next frame.
Weights lie in the file in half precision, those of the encoder in eight bits, and are widened when it is loaded: a
third of the size, the same speed.
"""

from __future__ import annotations

import argparse
import hashlib
import io
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from encoder import coarsen
from finetune import take
from model import Matte
from onnx_weights import bounded_scale
from optimize_graph import optimize

OPSET = 17
VERSION = "2026.11.6"
AREA = 2**17  # pixels of a thumbnail, 288x448: more shows more bystanders and costs more; see evaluate.py
TOLERANCE = 4e-3  # largest difference of an alpha between torch and onnxruntime: one level of 255
SMALL = 2000  # arrays of fewer numbers keep their full precision: they weigh nothing


class Exported(nn.Module):
    """The network as it ships: alpha instead of logits, without the output that only the loss needs."""

    def __init__(self, matte: Matte) -> None:
        super().__init__()
        self.matte = matte

    def forward(self, rgb: Tensor, memory: Tensor) -> tuple[Tensor, Tensor]:
        output = self.matte(rgb, memory)
        return torch.sigmoid(output.logits), output.memory


def load(weights: list[Path]) -> Matte:
    """The network with the averaged weights of a run, or the mean of several such, ready to be asked."""
    matte = Matte()
    states = [state_of(path) for path in weights]
    matte.load_state_dict({name: mean([state[name] for state in states]) for name in states[0]})
    coarsen(matte.encoder)
    return matte.eval()


def state_of(path: Path) -> dict[str, Tensor]:
    """The weights of a run, or of an exported file."""
    if path.suffix == ".onnx":
        take(matte := Matte(), path)
        return matte.state_dict()
    return without_silent(torch.load(path, map_location="cpu", weights_only=True))


def without_silent(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Let no norm amplify a channel that hardly ever changes: folded, it can exceed half precision."""
    for name, variance in state.items():
        if name.endswith("running_var"):
            scale = state[name.replace("running_var", "weight")]
            scale.copy_(torch.from_numpy(bounded_scale(scale.numpy(), variance.numpy())))
    return state


def mean(values: list[Tensor]) -> Tensor:
    """The mean; of whole numbers, which only count steps, the last."""
    return torch.stack(values).mean(0) if values[0].is_floating_point() else values[-1]


def to_onnx(matte: Matte, *, name: str = "builtin", version: str = VERSION, area: int = AREA) -> onnx.ModelProto:
    """The network as an ONNX graph with its interface and its metadata."""
    rgb, buffer = torch.rand(1, 3, 192, 320), io.BytesIO()
    names = ("rgb", "memory", "alpha", "memory_out")
    sides = {"rgb": ("height", "width"), "alpha": ("height", "width")}
    small = {"memory": ("memory_height", "memory_width"), "memory_out": ("memory_height", "memory_width")}
    torch.onnx.export(
        Exported(matte).eval(),
        (rgb, matte.empty_memory(rgb)),
        buffer,
        input_names=list(names[:2]),
        output_names=list(names[2:]),
        dynamic_axes={side: {2: high, 3: wide} for side, (high, wide) in (sides | small).items()},
        opset_version=OPSET,
        dynamo=False,
    )
    graph = onnx.load_from_string(buffer.getvalue())
    optimize(graph)
    shrink(graph.graph)
    describe(graph, name=name, version=version, area=area)
    onnx.checker.check_model(graph, full_check=True)
    return graph


def shrink(graph: onnx.GraphProto) -> None:
    """Store large weights in few bits, each behind operations that runtimes resolve once, when they load the file."""
    widening = []
    for array in list(graph.initializer):
        values = onnx.numpy_helper.to_array(array)
        if values.dtype != np.float32 or values.size < SMALL:
            continue
        graph.initializer.remove(array)
        steps = in_steps(values)
        widening += widen_half(graph, array.name, values) if steps is None else widen_steps(graph, array.name, *steps)
    nodes = [*widening, *graph.node]
    del graph.node[:]
    graph.node.extend(nodes)


def in_steps(values: NDArray[np.float32]) -> tuple[NDArray[np.int8], NDArray[np.float32]] | None:
    """Whole numbers and the step of each output channel, where the encoder was rounded to such; else None."""
    scale = np.abs(values).max(axis=tuple(range(1, values.ndim)), keepdims=True) / 127
    steps = np.round(values / np.maximum(scale, 1e-12))
    if np.abs(steps * scale - values).max() > 1e-6 * np.abs(values).max():
        return None
    return steps.astype(np.int8), scale.astype(np.float32)


def widen_half(graph: onnx.GraphProto, name: str, values: NDArray[np.float32]) -> list[onnx.NodeProto]:
    """Keep the values as float16 under another name; returns what makes them float32 again."""
    graph.initializer.append(onnx.numpy_helper.from_array(values.astype(np.float16), f"{name}.half"))
    return [onnx.helper.make_node("Cast", [f"{name}.half"], [name], to=onnx.TensorProto.FLOAT)]


def widen_steps(
    graph: onnx.GraphProto, name: str, steps: NDArray[np.int8], scale: NDArray[np.float32]
) -> list[onnx.NodeProto]:
    """Keep whole numbers and their steps; returns what multiplies them."""
    graph.initializer.append(onnx.numpy_helper.from_array(steps, f"{name}.steps"))
    graph.initializer.append(onnx.numpy_helper.from_array(scale, f"{name}.scale"))
    return [
        onnx.helper.make_node("Cast", [f"{name}.steps"], [f"{name}.whole"], to=onnx.TensorProto.FLOAT),
        onnx.helper.make_node("Mul", [f"{name}.whole", f"{name}.scale"], [name]),
    ]


def describe(graph: onnx.ModelProto, *, name: str, version: str, area: int) -> None:
    """Say in the file what it is and how it wants to be asked."""
    graph.producer_name, graph.producer_version, graph.doc_string = "alphareel", version, ""
    facts = {"name": name, "version": version, "memory_stride": 16, "area": area, "license": "Apache-2.0"}
    onnx.helper.set_model_props(graph, {name: str(value) for name, value in facts.items()})


def check(graph: onnx.ModelProto, matte: Matte, *, frames: int = 8) -> float:
    """Largest difference of an alpha between torch and onnxruntime over recurrent frames of two sizes."""
    session = ort.InferenceSession(graph.SerializeToString(), providers=["CPUExecutionProvider"])
    return max(_difference(session, matte, frames, size) for size in ((256, 256), (160, 384)))


@torch.inference_mode()
def _difference(session: ort.InferenceSession, matte: Matte, frames: int, size: tuple[int, int]) -> float:
    asked, worst = Exported(matte).eval(), 0.0
    picture = torch.from_numpy(np.random.default_rng(3).random((1, 3, *size), np.float32))
    memory = matte.empty_memory(picture)
    theirs = memory.numpy()
    for n in range(frames):
        rgb = picture.roll(8 * n, dims=3)
        alpha, memory = asked(rgb, memory)
        answer, theirs = session.run(["alpha", "memory_out"], {"rgb": rgb.numpy(), "memory": theirs})
        worst = max(worst, float(np.abs(answer - alpha.numpy()).max()))
    return worst


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--weights", type=Path, nargs="+", required=True)
    parser.add_argument("--out", type=Path, default=Path("../src/alphareel/matting/models/builtin.onnx"))
    parser.add_argument("--name", default="builtin", choices=("builtin", "subject"))
    parser.add_argument("--version", default=VERSION)
    parser.add_argument("--area", type=int, default=AREA)
    options = parser.parse_args()
    if len({path.suffix for path in options.weights}) > 1:
        parser.error("weights of a run and exported files have no mean: their norms differ")
    torch.set_num_threads(1)
    matte = load(options.weights)
    graph = to_onnx(matte, name=options.name, version=options.version, area=options.area)
    worst = check(graph, matte)
    if worst > TOLERANCE:
        parser.exit(1, f"torch and onnxruntime differ by {worst:.1e}; nothing was written.\n")
    data = graph.SerializeToString()
    options.out.write_bytes(data)
    parameters = sum(p.numel() for p in matte.parameters())
    print(f"{options.out}: {parameters} parameters, {len(data)} bytes, sha256 {hashlib.sha256(data).hexdigest()}")
    print(f"largest difference from torch over recurrent frames: {worst:.1e}")


if __name__ == "__main__":
    main()
