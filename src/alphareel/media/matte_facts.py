"""The facts that a lossless matte carries about itself, as a tag of its container."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

from alphareel.domain.clip import EngineFacts
from alphareel.domain.errors import BadVideo
from alphareel.domain.options import Options, from_json, to_json
from alphareel.media.source import open_container
from alphareel.media.verify import UNLIMITED

_TAG = "ALPHAREEL_MATTE"  # Matroska writes tag names in capitals


@dataclass(frozen=True)
class MatteFacts:
    """What made a matte, in enough detail to make further outputs of it.

    ``model_input_size``: (width, height) of the small copy of a frame from which the colors of soft pixels are
    estimated; None where the engine uses none. ``options``: the matting options. ``changes_colors``: the engine changed
    colors in a way that does not follow from the frame and its alpha.
    """

    engine: EngineFacts
    model_input_size: tuple[int, int] | None
    options: Options
    changes_colors: bool = False

    def to_tags(self) -> dict[str, str]:
        """The container's tags."""
        return {_TAG: json.dumps({**asdict(self), "options": to_json(self.options)})}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Self:
        """The inverse of the JSON in the tag. Raises KeyError, TypeError, ValueError."""
        size = values["model_input_size"]
        return cls(
            engine=EngineFacts(**values["engine"]),
            model_input_size=None if size is None else (int(size[0]), int(size[1])),
            options=from_json(values["options"]),
            changes_colors=bool(values["changes_colors"]),
        )


def matte_tags(tags: Mapping[str, str]) -> dict[str, str]:
    """The tags of a container that describe a matte; none for other videos."""
    text = next((text for name, text in tags.items() if name.upper() == _TAG), None)
    return {} if text is None else {_TAG: text}


def read_matte_facts(path: Path) -> MatteFacts:
    """The facts of the lossless matte ``path``. Raises BadVideo for any other file, and like ``open_container``."""
    with open_container(path, UNLIMITED) as container:
        tags = matte_tags(container.metadata)
    try:
        return MatteFacts.from_json(json.loads(tags[_TAG]))
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise BadVideo(
            f"{path.name} is not a matte that alphareel kept.",
            hint="Write one with --format lossless_matte, beside the other outputs.",
        ) from error
