"""The command that hands a trained model over to other software.

It imports what it needs when it runs, so that ``--help`` answers at once.
"""

from __future__ import annotations

import sys
from contextlib import redirect_stdout
from pathlib import Path
from typing import Annotated

import typer

from betanas.cli.app import app, example
from betanas.cli.options import JsonOption, ends_well, err, print_json, say, short


@app.command(epilog=example("betanas export --checkpoint model.pt --format onnx"))
@ends_well
def export(
    checkpoint: Annotated[Path, typer.Option(help="A model.pt that betanas train wrote.")],
    format_: Annotated[
        str,
        typer.Option(
            "--format",
            metavar="onnx|torch-export|safetensors|python",
            help="Graphs take pixels in [0, 1]; python is one readable file of plain torch.",
        ),
    ],
    output: Annotated[
        Path | None, typer.Option(help="Folder for the files; else the checkpoint's.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Write a trained model in another format, and prove that it answers the same there."""
    say("loading ...", err, "dim")
    with redirect_stdout(sys.stderr):  # exporters talk
        from betanas.jobs.export import export as run

        exported = run(checkpoint, format_, output)
    if as_json:
        print_json(exported.to_json())
        return
    for file in exported.files:
        say(file)
    say(
        f"{short(exported.num_params)} parameters; its logits differ from the trained model's by "
        f"{exported.max_abs_error:.2g} at most"
    )
