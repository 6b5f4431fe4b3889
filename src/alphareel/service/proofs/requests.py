"""The body of a request for a proof."""

from typing import Annotated, Any

from pydantic import Field

from alphareel.domain.parsing import OPTION_PARSERS
from alphareel.service.jobs.capabilities import engine_names
from alphareel.service.requests import SparseBody, documented_by, parsed_by
from alphareel.service.urls import SOURCE_URL

MAX_ENGINES = 16
KnownEngine = Annotated[str, Field(json_schema_extra={"enum": list(engine_names())})]


class ProofCreate(SparseBody):
    """Six frames of a clip with several engines."""

    video_url: Annotated[str, parsed_by(SOURCE_URL)]
    engines: (
        Annotated[Any, documented_by(Annotated[list[KnownEngine], Field(min_length=1, max_length=MAX_ENGINES)])] | None
    ) = Field(default=None, description="By default every engine that can run here.")
    text_prompt: Annotated[str, parsed_by(OPTION_PARSERS["text_prompt"])] | None = Field(
        default=None, description="For engines that take a prompt."
    )
