"""The command that asks a trained model what pictures show.

It imports what it needs when it runs, so that ``--help`` answers at once.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from betanas.cli.app import app, example
from betanas.cli.options import JsonOption, ends_well, err, out, per_cent, print_json, say


@app.command(epilog=example("betanas predict --checkpoint model.pt photos/*.jpg"))
@ends_well
def predict(
    images: Annotated[list[str], typer.Argument(metavar="IMAGE...", help="Picture files.")],
    checkpoint: Annotated[Path, typer.Option(help="A model.pt that betanas train wrote.")],
    top: Annotated[int, typer.Option(min=1, help="How many classes to tell of a picture.")] = 5,
    as_json: JsonOption = False,
) -> None:
    """Tell what pictures show, by a trained model."""
    say("loading ...", err, "dim")
    from betanas.jobs.model import load_model

    found = load_model(checkpoint).predict(images)
    if as_json:
        print_json([prediction.to_json(top) for prediction in found])
        return
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False)
    for name in ("image", "class", "probability", "then"):
        table.add_column(name, justify="right" if name == "probability" else "left")
    for prediction in found:
        others = ", ".join(f"{name} {per_cent(share)}" for name, share in prediction.top[1:top])
        cells = (str(prediction.image), prediction.label, per_cent(prediction.probability), others)
        table.add_row(*(Text(_shown(cell)) for cell in cells))
    out.print(table)


def _shown(name: str) -> str:
    """A name of a folder or a file, which need not be valid UTF-8, as any terminal takes it."""
    return name.encode("utf-8", "backslashreplace").decode()
