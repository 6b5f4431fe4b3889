"""Tiny ONNX networks with the interfaces of the real ones. Their alpha depends on color and brightness only."""

from collections.abc import Mapping
from pathlib import Path

import onnx
from onnx import parser

_HEAD = '<ir_version: 8, opset_import: ["" : 17]>'

# Alpha grows with red minus blue. The recurrent state shifts it, so that state that leaks between shots is visible.
_BUILTIN = """
tiny_builtin (float[1,3,H,W] rgb, float[1,4,h,w] memory) => (float[1,1,H,W] alpha, float[1,4,h,w] memory_out)
<
  float[1,3,1,1] warm = {24.0, -12.0, -12.0},
  float[4,3,1,1] mix = {0.4, 0.1, 0.0, 0.0, 0.4, 0.1, 0.1, 0.0, 0.4, 0.2, 0.2, 0.1},
  float[1,4,1,1] recall = {0.8, -0.4, -0.4, 0.2},
  float[1] half = {0.5}, float[1] threshold = {2.0}
>
{
  pooled = AveragePool <kernel_shape = [16, 16], strides = [16, 16]> (rgb)
  seen = Conv (pooled, mix)
  old = Mul (memory, half)
  memory_out = Add (old, seen)
  recalled = Conv (memory_out, recall)
  size = Shape <start = 2> (rgb)
  lead = Constant <value_ints = [1, 1]> ()
  shape = Concat <axis = 0> (lead, size)
  shift = Resize <mode = "linear"> (recalled, , , shape)
  score = Conv (rgb, warm)
  moved = Add (score, shift)
  level = Sub (moved, threshold)
  alpha = Sigmoid (level)
}
"""

_RVM = """
tiny_rvm (
  float[B,3,H,W] src, float[R1,C1,H1,W1] r1i, float[R2,C2,H2,W2] r2i, float[R3,C3,H3,W3] r3i, float[R4,C4,H4,W4] r4i,
  float[1] downsample_ratio
) => (
  float[B,3,H,W] fgr, float[B,1,H,W] pha,
  float[B,3,P1,Q1] r1o, float[B,3,P2,Q2] r2o, float[B,3,P3,Q3] r3o, float[B,3,P4,Q4] r4o
)
<
  float[1,3,1,1] warm = {24.0, -12.0, -12.0}, float[1,3,1,1] recall = {0.8, -0.4, -0.4},
  float[1] half = {0.5}, float[1] threshold = {2.0}
>
{
  fgr = Mul (src, downsample_ratio)
  p1 = AveragePool <kernel_shape = [2, 2], strides = [2, 2]> (src)
  p2 = AveragePool <kernel_shape = [2, 2], strides = [2, 2]> (p1)
  p3 = AveragePool <kernel_shape = [2, 2], strides = [2, 2]> (p2)
  p4 = AveragePool <kernel_shape = [2, 2], strides = [2, 2]> (p3)
  m1 = Mul (r1i, half)
  m2 = Mul (r2i, half)
  m3 = Mul (r3i, half)
  m4 = Mul (r4i, half)
  r1o = Add (p1, m1)
  r2o = Add (p2, m2)
  r3o = Add (p3, m3)
  r4o = Add (p4, m4)
  recalled = Conv (r4o, recall)
  size = Shape <start = 2> (src)
  lead = Constant <value_ints = [1, 1]> ()
  shape = Concat <axis = 0> (lead, size)
  shift = Resize <mode = "linear"> (recalled, , , shape)
  score = Conv (src, warm)
  moved = Add (score, shift)
  level = Sub (moved, threshold)
  pha = Sigmoid (level)
}
"""

# Like the two above, but without recurrent state.
_IMAGE_MODEL = """
tiny_image_model (float[1,3,%(height)s,%(width)s] %(input)s) => (float[1,1,%(height)s,%(width)s] %(output)s)
<
  float[1,3,1,1] warm = {%(weights)s}, float[1] threshold = {%(threshold)s}
>
{
  score = Conv (%(input)s, warm)
  %(last)s
}
"""


# Padding, because a smaller file would be rejected as broken.
_PADDING = {"padding": "." * 1024}


def make_builtin(path: Path, metadata: Mapping[str, str] | None = None) -> Path:
    """Write a network with the interface of builtin and subject (``recurrent_model.py``) and this metadata."""
    facts = {"version": "tiny", "memory_stride": "16", "area": "16384"} if metadata is None else metadata
    return _save(_BUILTIN, path, facts)


def make_rvm(path: Path) -> Path:
    """Write a network with the ONNX interface of Robust Video Matting. Its states have three channels each."""
    return _save(_RVM, path, {})


def make_modnet(path: Path, size: tuple[int, int] | None = None) -> Path:
    """Write a network with MODNet's interface: input in -1..1. ``size`` (width, height) fixes its input size."""
    width, height = size or ("W", "H")
    facts = {"input": "input", "output": "output", "weights": "12.0, -6.0, -6.0", "threshold": "2.0"}
    last = "level = Sub (score, threshold)\n  output = Sigmoid (level)"
    return _save(_IMAGE_MODEL % {**facts, "width": width, "height": height, "last": last}, path, _PADDING)


def make_birefnet(path: Path, size: tuple[int, int] | None = (96, 96)) -> Path:
    """Write a network with BiRefNet's interface: ImageNet normalization, logits out. ``size`` as in make_modnet."""
    width, height = size or ("W", "H")
    facts = {"input": "input_image", "output": "output_image", "weights": "5.5, -2.7, -2.7", "threshold": "1.0"}
    last = "output_image = Sub (score, threshold)"
    return _save(_IMAGE_MODEL % {**facts, "width": width, "height": height, "last": last}, path, _PADDING)


def _save(graph: str, path: Path, metadata: Mapping[str, str]) -> Path:
    model = parser.parse_model(_HEAD + graph)
    onnx.checker.check_model(model, full_check=True)
    onnx.helper.set_model_props(model, dict(metadata))
    onnx.save(model, str(path))
    return path
