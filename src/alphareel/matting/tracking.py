"""SAM 2.1 (Ravi et al., arXiv:2408.00714): tracks subjects from frame to frame. Runs on transformers."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from alphareel.domain.errors import WeightsInvalid
from alphareel.matting.grounding import normalize_imagenet
from alphareel.matting.runtime import Array
from alphareel.matting.subjects import Box
from alphareel.matting.torch_runtime import as_tensor, load_pretrained, torch, transformers, translate_errors

# The prompt encoder's labels for the corners of a box.
_CORNER_LABELS = (2, 3)
MAX_LOGIT = 30.0  # a larger one changes no float32 alpha


@dataclass(frozen=True)
class Sam:
    """The network; shared by clips. ``size``: side of its square input in pixels."""

    network: Any
    size: int

    def start(self) -> "SamTracker":
        """A ``subjects.Tracker`` for one clip."""
        return SamTracker(self.network, self.size)


class SamTracker:
    """The inference session of one shot. Frames the network no longer reads are dropped, so memory does not grow."""

    def __init__(self, network: Any, size: int) -> None:
        self._network, self._size = network, size
        # The number of past frames it reads features or object pointers of.
        self._lookback = max(network.config.num_maskmem, network.config.max_object_pointers_in_encoder)
        self.reset()

    def reset(self) -> None:
        """Start a session without subjects."""
        session_class = transformers().models.sam2_video.modeling_sam2_video.Sam2VideoInferenceSession
        self._session = session_class(video_height=self._size, video_width=self._size, dtype=torch().float32)
        self._index = self._subjects = 0

    def track(self, rgb: Array, new_subjects: Sequence[Box]) -> Array:
        """Alpha (n, h, w) of the subjects in the next image, a square of ``size``. See ``subjects.Tracker``."""
        with translate_errors("SAM 2.1"):
            self._add(new_subjects)
            frame = as_tensor(normalize_imagenet(rgb))
            output = self._network(inference_session=self._session, frame=frame, frame_idx=self._index)
            logits = output.pred_masks[:, 0].numpy()
        self._prune(self._index - self._lookback)
        self._index += 1
        height, width = rgb.shape[1:]
        full = np.stack([cv2.resize(m, (width, height), interpolation=cv2.INTER_LINEAR) for m in logits])
        return np.asarray(1 / (1 + np.exp(-np.clip(full, -MAX_LOGIT, MAX_LOGIT))), np.float32)

    def _add(self, new_subjects: Sequence[Box]) -> None:
        """Prompt the network with the boxes of subjects that start in the next image."""
        object_ids = []
        for box in new_subjects:
            object_id, self._subjects = self._subjects, self._subjects + 1
            index = self._session.obj_id_to_idx(object_id)
            corners = torch().tensor([[box.left, box.top], [box.right, box.bottom]], dtype=torch().float32)
            prompt = {
                "point_coords": corners[None, None] * self._size,
                "point_labels": torch().tensor([[_CORNER_LABELS]], dtype=torch().int32),
            }
            self._session.add_point_inputs(index, self._index, prompt)
            object_ids.append(object_id)
        self._session.obj_with_new_inputs = object_ids

    def _prune(self, before: int) -> None:
        """Drop frames before ``before``, except those in which a subject started."""
        session = self._session
        session.processed_frames.clear()  # each image is processed once
        tables = [outputs["non_cond_frame_outputs"] for outputs in session.output_dict_per_obj.values()]
        for table in (*tables, *session.frames_tracked_per_obj.values(), *session.point_inputs_per_obj.values()):
            for index in [i for i in table if i < before]:
                del table[index]


def load_sam(folder: Path) -> Sam:
    """Load a transformers model folder. Raises WeightsInvalid."""
    network = load_pretrained(transformers().Sam2VideoModel, folder)
    size = network.config.image_size
    if not isinstance(size, int):
        raise WeightsInvalid(
            f"{folder.name} has an input size of {size}, which is not square.",
            hint="Use the files that its model card names.",
        )
    return Sam(network, size)
