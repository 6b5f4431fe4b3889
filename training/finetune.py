"""Going on from an exported file, without the checkpoint it was written from.

Exporting folded the batch norms into their convolutions. Here they come apart again: each norm takes the mean and the
spread that its convolution has over pictures of the shards, and a scale and a bias that undo both. So the network
answers as the file does, in training as in use. What the file does not have, the answer at 1/8 for the loss, starts
at zero.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path

import onnx
import torch
from torch import Tensor, nn

from model import Matte
from onnx_weights import PREFIX, folded, widened


def learn_from_file(matte: Matte, path: Path, batches: Iterator[Tensor], count: int = 60) -> None:
    """Take the weights of an exported file; `batches` yields pictures (N, 3, H, W) in 0..1."""
    take(matte, path)
    unfold(matte, batches, count)


@torch.no_grad()
def take(matte: Matte, path: Path) -> None:
    """The weights of an exported file as they are: norms add their bias and do nothing else."""
    arrays = dict(widened(onnx.load(path)))
    named = {name.removeprefix(PREFIX): torch.from_numpy(values) for name, values in arrays.items() if PREFIX in name}
    matte.load_state_dict(named, strict=False)
    for (conv, norm), (weight, bias) in zip(folded_pairs(matte), folded(arrays), strict=True):
        conv.weight.copy_(torch.from_numpy(weight))
        norm.bias.copy_(torch.from_numpy(bias))
        norm.weight.fill_(1)
        norm.running_mean.zero_()
        norm.running_var.fill_(1 - norm.eps)
    nn.init.zeros_(matte.coarse.weight)


def folded_pairs(matte: Matte) -> Iterator[tuple[nn.Conv2d, nn.BatchNorm2d]]:
    """Convolutions with a norm, in the order in which a frame meets them."""
    parts = (matte.world, matte.deep, matte.up4, matte.weigh, matte.up3, matte.up2, matte.up1, matte.head)
    for part in parts:
        layers = [layer for layer in part.modules() if isinstance(layer, nn.Conv2d | nn.BatchNorm2d)]
        yield from ((a, b) for a, b in pairwise(layers) if isinstance(b, nn.BatchNorm2d))


@torch.no_grad()
def unfold(matte: Matte, batches: Iterator[Tensor], count: int) -> None:
    """Give each norm, as `take` leaves it, the statistics of what reaches it, and a scale and a bias that undo them."""
    pairs = list(folded_pairs(matte))
    sums = [torch.zeros(3, norm.num_features, dtype=torch.float64) for _, norm in pairs]
    hooks = [conv.register_forward_hook(_counting(total)) for (conv, _), total in zip(pairs, sums, strict=True)]
    matte.eval()
    for _ in range(count):
        rgb = next(batches).to(matte.coarse.weight.device)
        matte(rgb, matte.empty_memory(rgb))
    for hook in hooks:
        hook.remove()
    for (_, norm), (number, first, second) in zip(pairs, sums, strict=True):
        mean = first / number
        norm.running_mean.copy_(mean)
        norm.running_var.copy_((second / number - mean**2).clamp_min(1e-6))
        norm.weight.copy_(torch.sqrt(norm.running_var + norm.eps))
        norm.bias.add_(norm.running_mean)
    matte.train()


def _counting(total: Tensor) -> Callable[..., None]:
    def hook(_module: nn.Module, _inputs: object, output: Tensor) -> None:
        values = output.double()
        total[0] += values.numel() / values.shape[1]
        total[1] += values.sum((0, 2, 3))
        total[2] += (values**2).sum((0, 2, 3))

    return hook
