"""Grounding DINO (Liu et al., arXiv:2303.05499): words to boxes, through transformers."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from alphareel.domain.errors import InvalidRequest
from alphareel.matting.runtime import Array
from alphareel.matting.subjects import Box
from alphareel.matting.torch_runtime import as_tensor, load_pretrained, ours, transformers

# As it was trained: the shorter side so long, the longer no longer than this.
_SHORT, _LONG = 800, 1333
_LEAST_SCORE = 0.35


@dataclass(frozen=True)
class GroundingDino:
    """The network and its dictionary; shared by clips."""

    network: Any
    tokenizer: Any

    def look_for(self, phrases: Sequence[str], *, aspect: float) -> "WordsFinder":
        """A Finder of these phrases in pictures that are ``aspect`` times as wide as high.

        Raises InvalidRequest when the network cannot take so many words.
        """
        tokens = self.tokenizer(". ".join(phrases) + ".", return_tensors="pt")
        most = self.network.config.max_text_len
        if tokens["input_ids"].shape[1] > most:
            raise InvalidRequest("text_prompt has too many words.", hint="Use a few short phrases.")
        return WordsFinder(self.network, dict(tokens), aspect)


@dataclass(frozen=True)
class WordsFinder:
    network: Any
    tokens: dict[str, Any]
    aspect: float

    def find(self, rgb: Array) -> list[Box]:
        """Everything that one of the phrases fits, with its score."""
        with ours("Grounding DINO"):
            answer = self.network(pixel_values=as_tensor(self._seen(rgb))[None], **self.tokens)
            scores = answer.logits[0].sigmoid().amax(dim=-1).numpy()
            centers = answer.pred_boxes[0].numpy()
        return [_box(centers[i], float(scores[i])) for i in np.flatnonzero(scores >= _LEAST_SCORE)]

    def _seen(self, rgb: Array) -> Array:
        """The picture in its true shape, in ImageNet's colors."""
        long = max(self.aspect, 1 / self.aspect)
        short = min(_SHORT, _LONG / long)
        width, height = (short * self.aspect, short) if self.aspect >= 1 else (short, short / self.aspect)
        size = (max(32, round(width)), max(32, round(height)))
        resized = np.stack([cv2.resize(plane, size, interpolation=cv2.INTER_LINEAR) for plane in rgb])
        return imagenet(np.asarray(resized, np.float32))


def load_grounding(folder: Path) -> GroundingDino:
    """The network in this folder, as transformers keeps it. Raises WeightsInvalid."""
    library = transformers()
    network = load_pretrained(library.GroundingDinoForObjectDetection, folder)
    return GroundingDino(network, load_pretrained(library.AutoTokenizer, folder))


def imagenet(rgb: Array) -> Array:
    """R, G, B (3, h, w) of 0..1, shifted and scaled by ImageNet's means and deviations."""
    mean = np.array((0.485, 0.456, 0.406), np.float32).reshape(3, 1, 1)
    deviation = np.array((0.229, 0.224, 0.225), np.float32).reshape(3, 1, 1)
    return np.asarray((rgb - mean) / deviation, np.float32)


def _box(center: Array, score: float) -> Box:
    x, y, width, height = (float(v) for v in center)
    left, top, right, bottom = (
        min(1.0, max(0.0, v)) for v in (x - width / 2, y - height / 2, x + width / 2, y + height / 2)
    )
    return Box(left, top, right, bottom, score)
