"""Commands that ask a trained model: what pictures show, and how often it is right.

Each imports what it needs when it runs, so that ``--help`` answers at once.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from betanas.cli.app import app, example
from betanas.cli.options import (
    DeviceOption,
    JsonOption,
    SetOption,
    ends_well,
    err,
    out,
    per_cent,
    print_json,
    say,
)
from betanas.errors import InputError

if TYPE_CHECKING:
    from betanas.jobs.evaluate import Evaluated

_WHOLE_TABLE = 12  # classes up to which the confusion table fits a terminal
_MOST_CONFUSED = 10  # pairs of classes that are told of a larger one


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


@app.command(epilog=example("betanas evaluate --checkpoint model.pt --data photos"))
@ends_well
def evaluate(
    checkpoint: Annotated[
        Path,
        typer.Option(help="A model.pt of betanas train; model.onnx or model.pt2 of export."),
    ],
    data: Annotated[
        str | None,
        typer.Option(help="Folder of images: FOLDER/test/CLASS/*.jpg, or FOLDER/CLASS/*.jpg."),
    ] = None,
    dataset: Annotated[
        str | None, typer.Option(help="digits, cifar10, cifar100, fashion-mnist: its test part.")
    ] = None,
    device: DeviceOption = "auto",
    set_: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Test a trained or exported model: accuracy, loss, and which classes it confuses."""
    if (data is None) == (dataset is None):
        raise InputError("evaluate takes either --data FOLDER or --dataset NAME")
    say("loading ...", err, "dim")
    from betanas.jobs.evaluate import evaluate as run
    from betanas.jobs.model_names import plain_definition
    from betanas.jobs.train import CACHE, TrainOptions

    options = TrainOptions(dataset, data, overrides=tuple(set_ or ()))
    found = run(checkpoint, plain_definition(options).dataset, CACHE, device)
    if as_json:
        print_json(found.to_json())
        return
    which = "images, which may be those it was trained on" if found.part == "all" else "test images"
    say(
        f"{per_cent(found.top1)} top-1, {per_cent(found.top5)} top-5, loss {found.loss:.4f} on "
        f"{found.images} {which}"
    )
    _print_confusion(found)


def _print_confusion(found: Evaluated) -> None:
    """Accuracy by class, and the confusion table, or of a large one what is confused most."""
    from rich.table import Table
    from rich.text import Text

    names, whole = found.classes, len(found.classes) <= _WHOLE_TABLE
    table = Table(box=None, pad_edge=False)
    table.add_column("class")
    for name in ("images", "accuracy", *(names if whole else ())):
        table.add_column(Text(_shown(name)), justify="right")
    for row, counts in zip(found.by_class(), found.confusion.tolist(), strict=True):
        cells = [_shown(row["class"]), str(row["images"]), per_cent(row["accuracy"])]
        table.add_row(*map(Text, cells), *(map(str, counts) if whole else ()))
    out.print(table)
    if not whole:
        for right, taken, times in found.confused()[:_MOST_CONFUSED]:
            say(f"{_shown(right)} taken for {_shown(taken)}: {times}")


def _shown(name: str) -> str:
    """A name of a folder or a file, which need not be valid UTF-8, as any terminal takes it."""
    return name.encode("utf-8", "backslashreplace").decode()
