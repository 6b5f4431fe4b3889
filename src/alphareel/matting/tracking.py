"""SAM 2.1 (Ravi et al., arXiv:2408.00714): subjects followed from frame to frame, through transformers."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from alphareel.domain.errors import WeightsInvalid
from alphareel.matting.grounding import imagenet
from alphareel.matting.runtime import Array
from alphareel.matting.subjects import Box
from alphareel.matting.torch_runtime import as_tensor, load_pretrained, ours, torch, transformers

# The prompt encoder's names for the corners of a box.
_CORNERS = (2, 3)
_SURE = 30.0


@dataclass(frozen=True)
class Sam:
    """The network; shared by clips. ``size``: side of the square pictures that it sees."""

    network: Any
    size: int

    def begin(self) -> "SamTracker":
        """A Tracker for one clip."""
        return SamTracker(self.network, self.size)


class SamTracker:
    """The network's session of one shot, of which only what it still looks at is kept: memory does not grow."""

    def __init__(self, network: Any, size: int) -> None:
        self._network, self._size = network, size
        # How far it looks back: frames for their features, and for their pointers to the subjects.
        self._reach = max(network.config.num_maskmem, network.config.max_object_pointers_in_encoder)
        self.forget()

    def forget(self) -> None:
        """Begin a session without subjects."""
        made = transformers().models.sam2_video.modeling_sam2_video.Sam2VideoInferenceSession
        self._session = made(video_height=self._size, video_width=self._size, dtype=torch().float32)
        self._index = self._subjects = 0

    def track(self, rgb: Array, fresh: Sequence[Box]) -> Array:
        """Alpha (n, h, w) of the subjects in the next picture, a square of ``size``."""
        with ours("SAM 2.1"):
            self._add(fresh)
            seen = as_tensor(imagenet(rgb))
            answer = self._network(inference_session=self._session, frame=seen, frame_idx=self._index)
            logits = answer.pred_masks[:, 0].numpy()
        self._prune(self._index - self._reach)
        self._index += 1
        height, width = rgb.shape[1:]
        full = np.stack([cv2.resize(m, (width, height), interpolation=cv2.INTER_LINEAR) for m in logits])
        return np.asarray(1 / (1 + np.exp(-np.clip(full, -_SURE, _SURE))), np.float32)

    def _add(self, fresh: Sequence[Box]) -> None:
        """Name the subjects that begin in the next picture by their boxes."""
        names = []
        for box in fresh:
            name, self._subjects = self._subjects, self._subjects + 1
            index = self._session.obj_id_to_idx(name)
            corners = torch().tensor([[box.left, box.top], [box.right, box.bottom]], dtype=torch().float32)
            prompt = {
                "point_coords": corners[None, None] * self._size,
                "point_labels": torch().tensor([[_CORNERS]], dtype=torch().int32),
            }
            self._session.add_point_inputs(index, self._index, prompt)
            names.append(name)
        self._session.obj_with_new_inputs = names

    def _prune(self, before: int) -> None:
        """Drop what lies too far back to be looked at again; where a subject began stays."""
        session = self._session
        session.processed_frames.clear()  # a picture is looked at once
        tables = [outputs["non_cond_frame_outputs"] for outputs in session.output_dict_per_obj.values()]
        for table in (*tables, *session.frames_tracked_per_obj.values(), *session.point_inputs_per_obj.values()):
            for index in [i for i in table if i < before]:
                del table[index]


def load_sam(folder: Path) -> Sam:
    """The network in this folder, as transformers keeps it. Raises WeightsInvalid."""
    network = load_pretrained(transformers().Sam2VideoModel, folder)
    size = network.config.image_size
    if not isinstance(size, int):
        raise WeightsInvalid(f"{folder.name} sees pictures of {size}, not squares.", hint="Use the file of its card.")
    return Sam(network, size)
