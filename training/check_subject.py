"""How good a state of the training is at whatever stands in front: a few seconds every few minutes.

The masked sequences of `subject_datasets.CHOOSE`, every one from an empty memory; some of the scored photos of
people; and scenes in which there is nothing. What `subject_datasets.REPORT` gives is computed by evaluate_subject.py.
"""

from __future__ import annotations

import csv
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnxruntime as ort
import torch
from numpy.typing import NDArray
from torch import nn

from encoder import coarsen
from export import AREA, to_onnx
from model import Matte
from schedule import engine_size
from shards import Image
from subject_datasets import CHOOSE

Alpha = NDArray[Any]  # of float32; the stubs of OpenCV lose the type
FRAMES, PEOPLE = 16, 12  # first frames of a sequence, and photos, that are looked at
EMPTY = 40  # scenes without anything in front


@dataclass(frozen=True)
class Material:
    """Folders: of the objects that collect.py wrote, of the data with `clips`, and of the empty scenes."""

    objects: Path
    data: Path
    empty: Path

    def sequence(self, name: str) -> Path:
        """The folder of a masked sequence, which one of two places has."""
        mine = self.data / "clips" / "davis" / name
        return mine if mine.is_dir() else self.objects / "clip+mask" / "davis16" / name


class Network:
    """An exported network with its memory."""

    def __init__(self, model: bytes | str, area: int = AREA) -> None:
        options = ort.SessionOptions()
        options.intra_op_num_threads = 1
        self._session = ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        self._channels, self._area = self._session.get_inputs()[1].shape[1], area
        self.reset()

    def reset(self) -> None:
        self._memory: Alpha | None = None

    def frame(self, rgb: Image) -> Alpha:
        """Alpha of the next frame."""
        width, height = engine_size(rgb.shape[1], rgb.shape[0], self._area)
        if self._memory is None:
            self._memory = np.zeros((1, self._channels, height // 16, width // 16), np.float32)
        small = cv2.resize(rgb, (width, height), interpolation=cv2.INTER_AREA)
        feeds = {"rgb": small.transpose(2, 0, 1)[None].astype(np.float32) / 255, "memory": self._memory}
        alpha, self._memory = self._session.run(["alpha", "memory_out"], feeds)
        return cv2.resize(alpha[0, 0], rgb.shape[1::-1])


def masked(folder: Path, count: int | None = None) -> Iterator[tuple[Image, Alpha]]:
    """Pictures and human masks of a folder."""
    for path in sorted((folder / "rgb").iterdir())[:count]:
        mask = cv2.imread(str(folder / "mask" / f"{path.stem}.png"), cv2.IMREAD_GRAYSCALE)
        rgb = np.ascontiguousarray(cv2.imread(str(path))[..., ::-1])
        yield rgb, (cv2.resize(mask, rgb.shape[1::-1], interpolation=cv2.INTER_NEAREST) > 127).astype(np.float32)


def iou(alpha: Alpha, true: Alpha) -> float:
    """Intersection over union of what lies above a half; 1 when nothing does in either."""
    found, wanted = alpha > 0.5, true > 0.5
    union = np.count_nonzero(found | wanted)
    return np.count_nonzero(found & wanted) / union if union else 1.0


def figures(network: Network, material: Material) -> dict[str, float]:
    """IoU of each sequence, their mean, IoU of photos of people, and per cent of pixels taken in empty scenes."""
    rows: dict[str, float] = {}
    for name in CHOOSE:
        network.reset()
        rows[name] = float(
            np.mean([iou(network.frame(rgb), true) for rgb, true in masked(material.sequence(name), FRAMES)])
        )
    mean = float(np.mean(list(rows.values())))
    people = []
    for rgb, true in masked(material.data / "clips" / "ccp", PEOPLE):
        network.reset()
        people.append(iou(network.frame(rgb), true))
    taken = []
    for path in sorted(material.empty.glob("*.jpg"))[:EMPTY]:
        network.reset()
        taken.append(float((network.frame(np.ascontiguousarray(cv2.imread(str(path))[..., ::-1])) > 0.5).mean()))
    return {"choose": mean, "ccp": float(np.mean(people)), "empty %": 100 * float(np.mean(taken or [0])), **rows}


def check(average: nn.Module, out: Path, facts: dict[str, float], material: Material) -> None:
    """Export the averaged network as `<out>/subject.onnx`, judge it, and keep it as `<out>/best/` if it is the best.

    The best has the highest mean IoU of sequences and photos less what it takes in empty scenes.
    """
    matte = Matte()
    matte.load_state_dict(average.state_dict())
    coarsen(matte.encoder)
    began = time.monotonic()
    with torch.no_grad():
        data = to_onnx(matte.eval(), name="subject").SerializeToString()
    write(out / "subject.onnx", data)
    measured = figures(Network(data), material)
    score = 0.8 * measured["choose"] + 0.2 * measured["ccp"] - 0.01 * measured["empty %"]
    path = out / "curve.csv"
    best = max((float(row["score"]) for row in csv.DictReader(path.open())), default=-1.0) if path.exists() else -1.0
    row = facts | {"score": score} | measured
    fresh = not path.exists()
    with path.open("a", newline="") as file:
        writer = csv.writer(file)
        if fresh:
            writer.writerow(row)
        writer.writerow([f"{value:.4f}" for value in row.values()])
    if score >= best:
        (out / "best").mkdir(exist_ok=True)
        shutil.copy(out / "subject.onnx", out / "best" / "subject.part")
        (out / "best" / "subject.part").rename(out / "best" / "subject.onnx")
        torch.save(matte.state_dict(), out / "best" / "subject.part")
        (out / "best" / "subject.part").rename(out / "best" / "ema.pt")
    shown = " ".join(f"{name} {value:.3f}" for name, value in row.items())
    print(f"check, {time.monotonic() - began:.0f} s: {shown}", flush=True)


def write(path: Path, data: bytes) -> None:
    part = path.with_suffix(".part")
    part.write_bytes(data)
    part.rename(path)
