"""``betanas score``: what untrained networks promise."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from betanas.cli.app import app, example
from betanas.cli.options import (
    DeviceOption,
    JsonOption,
    SetOption,
    StorageOption,
    ends_well,
    err,
    out,
    print_json,
    say,
    short,
)
from betanas.errors import InputError

if TYPE_CHECKING:
    from betanas.analysis.measure import Measure
    from betanas.jobs.score import Scored
    from betanas.measures.scored import Batches
    from betanas.study.recipe import DatasetConfig


@app.command(epilog=example("betanas score --study demo --number 30"))
@ends_well
def score(
    study: Annotated[
        str | None, typer.Option(help="Score the networks of this study's complete trials.")
    ] = None,
    family: Annotated[
        str | None, typer.Option(help="Score random kernels of this family instead.")
    ] = None,
    number: Annotated[
        int | None,
        typer.Option(
            max=1_000_000, min=1, help="How many: of the study's trials at most, or random kernels."
        ),
    ] = None,
    resolution: Annotated[
        int | None, typer.Option(help="With --family: input side in pixels, or 32.")
    ] = None,
    classes: Annotated[
        int | None, typer.Option(help="With --family: number of classes, or 10.")
    ] = None,
    data: Annotated[str | None, typer.Option(help="Folder of images that naswot looks at.")] = None,
    device: DeviceOption = "auto",
    storage: StorageOption = None,
    set_: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Score untrained networks, beside their size, and tell what that says of a study's trials."""
    if (family is None) == (study is None):
        raise InputError("score takes either --study or --family")
    if study is not None and (resolution, classes) != (None, None):
        raise InputError("score --study takes resolution and classes from the study")
    say("loading ...", err, "dim")
    from betanas.analysis.measure import ACCURACIES
    from betanas.study.recipe import DatasetConfig

    images = DatasetConfig(name="imagefolder", root=data) if data is not None else None
    measure = ACCURACIES
    if study is not None:
        found, measure = _score_study(study, number, images, device, storage, set_)
    else:
        side = 32 if resolution is None else resolution
        number_of = 10 if classes is None else classes
        found = _score_family(str(family), number or 10, side, number_of, images, device)
    from betanas.jobs.score import to_json

    if as_json:
        print_json(to_json(found))
        return
    _print_scores(found, measure)
    if study is not None:
        _print_correlations(found)


def _score_study(
    study: str,
    number: int | None,
    images: DatasetConfig | None,
    device: str,
    storage: str | None,
    set_: list[str] | None,
) -> tuple[list[Scored], Measure]:
    from betanas.analysis.measure import Measure
    from betanas.cli.begun import load_begun
    from betanas.database.folders import cache_folder, trials_folder
    from betanas.jobs.load import storage_url
    from betanas.jobs.score import score_study

    definition, stored = load_begun(study, storage, set_)
    cache = cache_folder(trials_folder(storage_url(definition, storage), definition.name))
    dataset, seed = images or definition.dataset, definition.search.seed
    batches = _batches(dataset, definition.resolution, seed, cache)
    measure = Measure.of(definition.objective, stored.records())
    return score_study(definition, stored, number, batches, device, _tell), measure


def _score_family(
    family: str,
    number: int,
    resolution: int,
    classes: int,
    images: DatasetConfig | None,
    device: str,
) -> list[Scored]:
    from betanas.architecture.decoding import check_resolution
    from betanas.architecture.families import find_family
    from betanas.jobs.score import score_family

    chosen = find_family(family)
    check_resolution(resolution)
    batches = _batches(images, resolution, 0, Path("storage/cache"))
    return score_family(chosen, number, resolution, classes, batches, device, _tell)


def _batches(images: DatasetConfig | None, resolution: int, seed: int, cache: Path) -> Batches:
    """Images to score with, or noise and a note of why."""
    from betanas.jobs.score import batches_of

    batches, note = batches_of(images, resolution, seed, cache)
    if note:
        say(f"note: {note}", err)
    return batches


def _tell(s: Scored) -> None:
    say(f"{s.number:>5}  naswot {_plain(s.naswot)}  synflow {_plain(s.synflow)}", err)


def _plain(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"


def _print_scores(found: list[Scored], measure: Measure) -> None:
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    for name in ("number", "naswot", "synflow", "params", "macs", "value"):
        table.add_column(name, justify="right")
    for s in found:
        sizes = (short(s.num_params), short(s.macs), measure.told(s.value))
        table.add_row(str(s.number), _plain(s.naswot), _plain(s.synflow), *sizes)
    out.print(table)


def _print_correlations(found: list[Scored]) -> None:
    from rich.table import Table

    from betanas.jobs.score import correlations

    table = Table(box=None, pad_edge=False)
    table.add_column("rank correlation with the value")
    for name in ("Spearman", "95 % interval", "Kendall"):
        table.add_column(name, justify="right")
    for name, own in correlations(found).items():
        if own is None:
            table.add_row(name, "-", "-", "-")
            continue
        interval = f"{own.low:.2f} to {own.high:.2f}"
        table.add_row(name, f"{own.spearman:.2f}", interval, f"{own.kendall:.2f}")
    out.print(table)
