"""How wrong an alpha is. All maps are (N, 1, H, W); truths are alphas 0..1."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from model import Output


def matting_loss(output: Output, true: Tensor, length: int = 1) -> Tensor:
    """L1, cross entropy, gradients, a coarse answer at 1/8, and calm over sequences of `length` frames."""
    alpha = torch.sigmoid(output.logits)
    low = F.avg_pool2d(true, true.shape[-1] // output.coarse.shape[-1])
    loss = (alpha - true).abs().mean() + 0.5 * F.binary_cross_entropy_with_logits(output.logits, true)
    loss = loss + 0.5 * gradient_loss(alpha, true) + 0.3 * F.binary_cross_entropy_with_logits(output.coarse, low)
    return loss + change_loss(alpha, true, length) if length > 1 else loss


def recognition_loss(coarse: Tensor, true: Tensor) -> Tensor:
    """L1 and cross entropy of logits at 1/8 of the size: where somebody is, before how the outline runs."""
    low = F.avg_pool2d(true, true.shape[-1] // coarse.shape[-1])
    return (torch.sigmoid(coarse) - low).abs().mean() + F.binary_cross_entropy_with_logits(coarse, low)


def gradient_loss(alpha: Tensor, true: Tensor, scales: int = 3) -> Tensor:
    """Differences of neighboring pixels at several scales: edges in the right place and of the right softness."""
    loss, error = alpha.new_zeros(()), alpha - true
    for _ in range(scales):
        loss = loss + (error[..., 1:] - error[..., :-1]).abs().mean()
        loss = loss + (error[..., 1:, :] - error[..., :-1, :]).abs().mean()
        error = F.avg_pool2d(error, 2)
    return loss


def change_loss(alpha: Tensor, true: Tensor, length: int) -> Tensor:
    """Frame-to-frame changes as in the truth: mean |d alpha/dt - d true/dt|."""
    error = (alpha - true).unflatten(0, (-1, length))
    return (error[:, 1:] - error[:, :-1]).abs().mean()
