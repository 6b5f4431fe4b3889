"""``alphareel proof``: six frames of a clip with every engine, side by side."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import cyclopts
from rich.table import Table

import alphareel
from alphareel.cli.console import stdout
from alphareel.cli.cut import ModelsDir, Overwrite, ResultsAsJson, Threads
from alphareel.cli.results import progress_bar
from alphareel.cli.signals import interruptible
from alphareel.cli.targets import OWN_FILES, check_source

_Engines = Annotated[
    list[str] | None, cyclopts.Parameter(name="--engine", help="An engine to try; default: all here.", negative=())
]
_Prompt = Annotated[str | None, cyclopts.Parameter(help="What to keep, in words; for engines that take a prompt.")]


def proof(
    clip: Annotated[Path, cyclopts.Parameter(help="The video to try the engines on.")],
    picture: Annotated[
        Path | None, cyclopts.Parameter(help="The PNG to write; default: CLIP-proof.png in the current folder.")
    ] = None,
    /,
    *,
    engines: _Engines = None,
    prompt: _Prompt = None,
    models_dir: ModelsDir = None,
    threads: Threads = None,
    overwrite: Overwrite = False,
    as_json: ResultsAsJson = False,
) -> None:
    """Cut out six frames of CLIP with every engine that can run here, and draw them side by side in PICTURE (PNG).

    Parameters
    ----------
    models_dir
        Folder with model weights. Default: models in the data folder.
    """
    check_source(clip, "proof")
    target = picture or Path(f"{clip.stem}-proof.png")
    with interruptible(), progress_bar(clip.name) as show:
        sheet_proof = alphareel.prove(
            clip,
            target,
            engines=engines,
            text_prompt=prompt,
            limits=OWN_FILES,
            models_dir=models_dir,
            threads=threads,
            overwrite=overwrite,
            on_progress=show,
        )
    if as_json:
        print(json.dumps(asdict(sheet_proof), indent=2))  # noqa: T201 - this is the output
        return
    table = Table("engine", "s a frame", "s for the clip", "note")
    for engine in sheet_proof.engines:
        pace = engine.seconds_per_frame
        whole = f"{pace * sheet_proof.frames:.0f}" if pace and sheet_proof.frames else "-"
        table.add_row(engine.name, "-" if pace is None else f"{pace:.3g}", whole, engine.error or "")
    stdout.print(table)
    stdout.print(f"{target}", soft_wrap=True)
