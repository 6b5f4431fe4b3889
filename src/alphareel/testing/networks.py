"""Tiny networks made in code, with the interfaces of the engines' real ones. They know brightness, not people."""

from collections.abc import Mapping
from pathlib import Path

import onnx
from onnx import parser

_HEAD = '<ir_version: 8, opset_import: ["" : 17]>'

# Alpha is how red a pixel is against blue; what is remembered shifts it, so that a memory that leaks shows.
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

# As the two above, of one picture: no memory.
_PICTURE = """
tiny_picture (float[1,3,%(height)s,%(width)s] %(input)s) => (float[1,1,%(height)s,%(width)s] %(output)s)
<
  float[1,3,1,1] warm = {%(weights)s}, float[1] threshold = {%(threshold)s}
>
{
  score = Conv (%(input)s, warm)
  %(last)s
}
"""


# So small a file would be taken for a broken one.
_LONG_ENOUGH = {"padding": "." * 1024}


def make_builtin(path: Path, metadata: Mapping[str, str] | None = None) -> Path:
    """A network of the builtin interface (``models/builtin.py``, ``load_file``) with this metadata, at ``path``."""
    facts = {"version": "tiny", "memory_stride": "16", "area": "16384"} if metadata is None else metadata
    return _save(_BUILTIN, path, facts)


def make_rvm(path: Path) -> Path:
    """A network of Robust Video Matting's ONNX interface at ``path``; its states hold three channels each."""
    return _save(_RVM, path, {})


def make_modnet(path: Path, size: tuple[int, int] | None = None) -> Path:
    """A network of MODNet's interface at ``path``: takes -1..1; ``size`` (width, height) fixes its sides."""
    width, height = size or ("W", "H")
    facts = {"input": "input", "output": "output", "weights": "12.0, -6.0, -6.0", "threshold": "2.0"}
    last = "level = Sub (score, threshold)\n  output = Sigmoid (level)"
    return _save(_PICTURE % {**facts, "width": width, "height": height, "last": last}, path, _LONG_ENOUGH)


def make_birefnet(path: Path, size: tuple[int, int] | None = (96, 96)) -> Path:
    """A network of BiRefNet's interface at ``path``: ImageNet's colors in, logits out; ``size`` as above."""
    width, height = size or ("W", "H")
    facts = {"input": "input_image", "output": "output_image", "weights": "5.5, -2.7, -2.7", "threshold": "1.0"}
    last = "output_image = Sub (score, threshold)"
    return _save(_PICTURE % {**facts, "width": width, "height": height, "last": last}, path, _LONG_ENOUGH)


def _save(graph: str, path: Path, metadata: Mapping[str, str]) -> Path:
    model = parser.parse_model(_HEAD + graph)
    onnx.checker.check_model(model, full_check=True)
    onnx.helper.set_model_props(model, dict(metadata))
    onnx.save(model, str(path))
    return path
