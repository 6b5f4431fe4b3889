"""The network: an encoder that knows the world, a memory at 1/16 of the size, a light decoder.

Shapes are (batch, channels, height, width); heights and widths of pictures are multiples of 32.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from encoder import Encoder

WORLD = 160  # channels kept of what the classifier would judge by
DEEP = 192  # channels in which what was seen is weighed up, at 1/32
MEMORY = 48  # channels that are remembered from frame to frame


class Output(NamedTuple):
    """Alpha logits at full size, alpha logits at 1/8 (for the loss only), and the next memory."""

    logits: Tensor
    coarse: Tensor
    memory: Tensor


def centered(rgb: Tensor) -> Tensor:
    """0..1 as the encoder is used to it."""
    return rgb * (255 / 128) - 127 / 128


def conv(cin: int, cout: int, size: int = 1, stride: int = 1, groups: int = 1) -> list[nn.Module]:
    """Convolution and batch norm."""
    layer = nn.Conv2d(cin, cout, size, stride, size // 2, groups=groups, bias=False)
    return [layer, nn.BatchNorm2d(cout, momentum=0.03)]


class Gate(nn.Module):
    """Weighs channels by what the whole picture contains: cheap global context."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        narrow, widen = nn.Conv2d(channels, channels // 4, 1), nn.Conv2d(channels // 4, channels, 1)
        self.weigh = nn.Sequential(narrow, nn.ReLU(inplace=True), widen, nn.Sigmoid())

    def forward(self, x: Tensor) -> Tensor:
        return x * self.weigh(x.mean((2, 3), keepdim=True))


class Weigh(nn.Module):
    """Looks around in twice the channels and adds what it finds: cheap where pictures are small."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        wide = 2 * channels
        widen = [*conv(channels, wide), nn.ReLU(inplace=True)]
        look = [*conv(wide, wide, 3, groups=wide), nn.ReLU(inplace=True)]
        self.steps = nn.Sequential(*widen, *look, *conv(wide, channels))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.steps(x)


class Up(nn.Module):
    """Twice the size: coarse features added to those of the encoder, then mixed."""

    def __init__(self, coarse: int, skip: int, out: int) -> None:
        super().__init__()
        self.coarse, self.skip = nn.Sequential(*conv(coarse, out)), nn.Sequential(*conv(skip, out))
        look = [*conv(out, out, 3, groups=out), nn.ReLU(inplace=True)]
        self.mix = nn.Sequential(*look, *conv(out, out), nn.ReLU(inplace=True))

    def forward(self, x: Tensor, skip: Tensor) -> Tensor:
        up = F.interpolate(self.coarse(x), scale_factor=2.0, mode="bilinear", align_corners=False)
        return self.mix(F.relu(up + self.skip(skip)))


class Memory(nn.Module):
    """Convolutional gated recurrent unit on the first half of the channels; the other half passes by."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.channels = channels
        self.gates = nn.Conv2d(2 * channels, 2 * channels, 3, padding=1)
        self.candidate = nn.Conv2d(2 * channels, channels, 3, padding=1)

    def forward(self, x: Tensor, memory: Tensor) -> tuple[Tensor, Tensor]:
        """Features (N, 2C, h, w) and memory (N, C, h, w) -> features (N, 2C, h, w), next memory."""
        seen, passing = x.split(self.channels, dim=1)
        keep, reset = torch.sigmoid(self.gates(torch.cat([seen, memory], 1))).chunk(2, dim=1)
        candidate = torch.tanh(self.candidate(torch.cat([seen, reset * memory], 1)))
        memory = keep * memory + (1 - keep) * candidate
        return torch.cat([memory, passing], 1), memory


class Matte(nn.Module):
    """RGB 0..1 (N, 3, H, W) and memory (N, C, H/16, W/16) -> alpha logits (N, 1, H, W), next memory."""

    def __init__(self, memory: int = MEMORY) -> None:
        super().__init__()
        c1, c2, c3, c4, c5, world = Encoder.widths
        self.world = nn.Sequential(*conv(world, WORLD), nn.ReLU(inplace=True))
        seen = c5 + WORLD
        self.deep = nn.Sequential(Gate(seen), *conv(seen, DEEP), nn.ReLU(inplace=True), Weigh(DEEP), Weigh(DEEP))
        self.up4, self.weigh = Up(DEEP, c4, 2 * memory), nn.Sequential(Weigh(2 * memory), Weigh(2 * memory))
        self.memory = Memory(memory)
        self.up3, self.up2, self.up1 = Up(2 * memory, c3, 40), Up(40, c2, 24), Up(24, c1, 16)
        mix = [*conv(16 + 12, 24), nn.ReLU(inplace=True), *conv(24, 24, 3, groups=24), nn.ReLU(inplace=True)]
        self.head = nn.Sequential(*mix, nn.Conv2d(24, 4, 1))
        self.coarse = nn.Conv2d(40, 1, 1)
        self.apply(_initialize)
        self.encoder = Encoder()

    def empty_memory(self, rgb: Tensor) -> Tensor:
        """What is remembered before the first frame: zeros."""
        return rgb.new_zeros(rgb.shape[0], self.memory.channels, rgb.shape[-2] // 16, rgb.shape[-1] // 16)

    def forward(self, rgb: Tensor, memory: Tensor) -> Output:
        """One frame."""
        x = centered(rgb)
        skips, deep = self._encode(x)
        deep, memory = self.memory(deep, memory)
        return Output(*self._decode(x, skips, deep), memory)

    def sequence(self, rgb: Tensor, length: int) -> Output:
        """Clips of `length` frames each, frame after frame in the batch (N*length, 3, H, W), from empty memory.

        Only the memory has to go step by step; everything else sees all frames at once.
        """
        x = centered(rgb)
        skips, deep = self._encode(x)
        deep, memory = self._remember(deep, self.empty_memory(rgb[::length]), length)
        return Output(*self._decode(x, skips, deep), memory)

    def recognize(self, rgb: Tensor) -> Tensor:
        """Alpha logits at 1/8 of single pictures, without the fine end of the decoder: two thirds of the time."""
        skips, deep = self._encode(centered(rgb))
        deep, _ = self.memory(deep, self.empty_memory(rgb))
        return self.coarse(self.up3(deep, skips[2]))

    def _remember(self, deep: Tensor, memory: Tensor, length: int) -> tuple[Tensor, Tensor]:
        steps = []
        for frame in deep.unflatten(0, (-1, length)).unbind(1):
            features, memory = self.memory(frame, memory)
            steps.append(features)
        return torch.stack(steps, dim=1).flatten(0, 1), memory

    def _encode(self, x: Tensor) -> tuple[tuple[Tensor, Tensor, Tensor], Tensor]:
        f1, f2, f3, f4, f5, world = self.encoder(x)
        deep = self.deep(torch.cat([f5, self.world(world)], 1))
        return (f1, f2, f3), self.weigh(self.up4(deep, f4))

    def _decode(self, x: Tensor, skips: tuple[Tensor, Tensor, Tensor], deep: Tensor) -> tuple[Tensor, Tensor]:
        f1, f2, f3 = skips
        y3 = self.up3(deep, f3)
        y1 = self.up1(self.up2(y3, f2), f1)
        logits = F.pixel_shuffle(self.head(torch.cat([y1, F.pixel_unshuffle(x, 2)], 1)), 2)
        return logits, self.coarse(y3)


def _initialize(module: nn.Module) -> None:
    if isinstance(module, nn.Conv2d):
        nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        if module.bias is not None:
            nn.init.zeros_(module.bias)
