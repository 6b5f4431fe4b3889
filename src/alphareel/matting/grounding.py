"""Grounding DINO (Liu et al., arXiv:2303.05499): finds the boxes of what a text names. Runs on transformers."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from alphareel.domain.errors import InvalidRequest
from alphareel.matting.runtime import Array
from alphareel.matting.subjects import Box
from alphareel.matting.torch_runtime import as_tensor, load_pretrained, transformers, translate_errors

# The input size it was trained at: the shorter side, and the maximum of the longer one.
_SHORT_SIDE, MAX_LONG_SIDE = 800, 1333
MIN_SCORE = 0.35


@dataclass(frozen=True)
class GroundingDino:
    """The network and its tokenizer; shared by clips."""

    network: Any
    tokenizer: Any

    def finder(self, phrases: Sequence[str], *, aspect: float) -> "TextFinder":
        """A ``subjects.Finder`` of these phrases in images of aspect ratio ``aspect`` (width / height).

        Raises InvalidRequest when there are too many words for the network.
        """
        tokens = self.tokenizer(". ".join(phrases) + ".", return_tensors="pt")
        if tokens["input_ids"].shape[1] > self.network.config.max_text_len:
            raise InvalidRequest("text_prompt has too many words.", hint="Use a few short phrases.")
        return TextFinder(self.network, dict(tokens), aspect)


@dataclass(frozen=True)
class TextFinder:
    network: Any
    tokens: dict[str, Any]
    aspect: float

    def find(self, rgb: Array) -> list[Box]:
        """The boxes of everything that matches one of the phrases, with their scores."""
        with translate_errors("Grounding DINO"):
            answer = self.network(pixel_values=as_tensor(self._pixel_values(rgb))[None], **self.tokens)
            scores = answer.logits[0].sigmoid().amax(dim=-1).numpy()
            centers = answer.pred_boxes[0].numpy()
        return [_box(centers[i], float(scores[i])) for i in np.flatnonzero(scores >= MIN_SCORE)]

    def _pixel_values(self, rgb: Array) -> Array:
        """The image at its true aspect ratio, normalized with ImageNet's statistics."""
        long = max(self.aspect, 1 / self.aspect)
        short = min(_SHORT_SIDE, MAX_LONG_SIDE / long)
        width, height = (short * self.aspect, short) if self.aspect >= 1 else (short, short / self.aspect)
        size = (max(32, round(width)), max(32, round(height)))
        resized = np.stack([cv2.resize(plane, size, interpolation=cv2.INTER_LINEAR) for plane in rgb])
        return normalize_imagenet(np.asarray(resized, np.float32))


def load_grounding(folder: Path) -> GroundingDino:
    """Load a transformers model folder. Raises WeightsInvalid."""
    library = transformers()
    network = load_pretrained(library.GroundingDinoForObjectDetection, folder)
    return GroundingDino(network, load_pretrained(library.AutoTokenizer, folder))


def normalize_imagenet(rgb: Array) -> Array:
    """Normalize R, G, B (3, h, w) in 0..1 with ImageNet's means and standard deviations."""
    mean = np.array((0.485, 0.456, 0.406), np.float32).reshape(3, 1, 1)
    deviation = np.array((0.229, 0.224, 0.225), np.float32).reshape(3, 1, 1)
    return np.asarray((rgb - mean) / deviation, np.float32)


def _box(center: Array, score: float) -> Box:
    x, y, width, height = (float(v) for v in center)
    left, top, right, bottom = (
        min(1.0, max(0.0, v)) for v in (x - width / 2, y - height / 2, x + width / 2, y + height / 2)
    )
    return Box(left, top, right, bottom, score)
