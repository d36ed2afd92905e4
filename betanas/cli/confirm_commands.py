"""Commands that measure a study's winners again: with other seeds, and by the clock.

Each imports what it needs when it runs, so that ``--help`` answers at once.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

import typer

from betanas.cli.app import app, example
from betanas.cli.options import (
    MOST_IMAGES,
    DeviceOption,
    JsonOption,
    RanksOption,
    SetOption,
    StorageOption,
    StudyOption,
    ends_well,
    err,
    out,
    parse_ranks,
    print_json,
    say,
    short,
)
from betanas.jobs.load import open_begun, storage_url

if TYPE_CHECKING:
    from betanas.analysis.confirmation import Confirmed, Repeated
    from betanas.analysis.measure import Measure


@app.command(epilog=example("betanas confirm --study digits --top 5 --seeds 3"))
@ends_well
def confirm(
    study: StudyOption,
    top: Annotated[int, typer.Option(help="How many of the best trials to train again.")] = 5,
    seeds: Annotated[int, typer.Option(help="How often each is trained again, 2 or more.")] = 3,
    largest: Annotated[
        Literal["num_params", "macs", "none"],
        typer.Option(help="In what the reference is the largest feasible model."),
    ] = "num_params",
    data: Annotated[
        str | None, typer.Option(help="Folder of images, as for betanas optimize.")
    ] = None,
    nproc_per_node: RanksOption = "auto",
    device: DeviceOption = "auto",
    storage: StorageOption = None,
    set_: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Train the best trials again with new seeds: how sure is their order?"""
    from betanas.study.loading import load_definition

    definition = load_definition(study, set_ or (), data)
    url, ranks = storage_url(definition, storage), parse_ranks(nproc_per_node)
    say("loading ...", err, "dim")
    import optuna

    from betanas.analysis.confirmation import confirmed
    from betanas.analysis.measure import Measure
    from betanas.cli.progress import ConfirmProgress, tracked
    from betanas.jobs.confirm import Wanted
    from betanas.jobs.confirm import confirm as run

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    wanted = Wanted(top, seeds, largest)
    stored = open_begun(definition, url)
    with ConfirmProgress(err) as progress:
        reporter = tracked(definition, url, progress)
        run(definition, stored, url, device, ranks, wanted, reporter)
    records = stored.records()
    running = sum(r.is_replicate and r.state == "running" for r in records)
    found = confirmed(records)
    if as_json:
        print_json(
            {"study": definition.name, "running": running} | (found.to_json() if found else {})
        )
        return
    if running:
        say(f"{running} trainings are still with other workers", err)
    if found is None:
        say("no repeated training has a value")
        return
    measure = Measure.of(definition.objective, records)
    _print_models(found, measure)
    say(_verdict(found, measure))


@app.command(epilog=example("betanas latency --study digits --top 30 --batch 1"))
@ends_well
def latency(
    study: StudyOption,
    top: Annotated[int, typer.Option(help="How many of the best trials to measure.")] = 30,
    batch: Annotated[int, typer.Option(max=MOST_IMAGES, help="Images of one pass.")] = 1,
    device: DeviceOption = "auto",
    storage: StorageOption = None,
    set_: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Measure how long the best trials' networks take to answer, and note it on the trials."""
    from betanas.cli.begun import load_begun

    definition, stored = load_begun(study, storage, set_)
    say("measuring ...", err, "dim")
    from betanas.jobs.latency import Measured, measure, to_json

    def tell(m: Measured) -> None:
        say(f"trial {m.record.number:>4}  {1000 * m.latency.seconds:8.2f} ms", err)

    found, name = measure(definition, stored, top, batch, device, tell)
    if as_json:
        print_json(to_json(found, batch, name))
        return
    from rich.table import Table

    from betanas.analysis.measure import Measure

    scale = Measure.of(definition.objective, stored.records()).plain
    table = Table(box=None, pad_edge=False)
    for column in ("trial", scale.name, "params", "macs", "latency", "quartiles"):
        table.add_column(column, justify="right")
    for m in found:
        r, took = m.record, m.latency
        quartiles = f"{1000 * took.low:.2f} to {1000 * took.high:.2f} ms"
        cells = (scale.told(r.accuracy), short(r.num_params), short(r.macs))
        table.add_row(str(r.number), *cells, f"{1000 * took.seconds:.2f} ms", quartiles)
    out.print(table)
    say(f"batch {batch} on {name}; noted on the trials: the report has one more Pareto front")


def _print_models(found: Confirmed, measure: Measure) -> None:
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    table.add_column("model")
    columns = ("params", "macs", "search said", "mean", "std", "seeds", "failed", "best with")
    for name in (*columns, *(f"beats {_short_name(m)}" for m in found.models)):
        table.add_column(name, justify="right")
    for m in found.models:
        pairs = ("" if o is m else _chance(found.probability(m, o)) for o in found.models)
        table.add_row(
            m.title,
            short(m.num_params),
            short(m.macs),
            measure.told(m.searched),
            measure.told(m.mean),
            measure.told(m.std),
            str(len(m.values)),
            str(m.failed),
            _chance(m.probability_best),
            *pairs,
        )
    out.print(table)


def _short_name(model: Repeated) -> str:
    return str(model.repeats).split()[0]


def _chance(probability: float | None) -> str:
    return "-" if probability is None else f"{100 * probability:.0f} %"


def _verdict(found: Confirmed, measure: Measure) -> str:
    """The two answers in words."""
    if found.noise_std is None:
        return "no model was trained twice: nothing can be said of the order"
    noise = measure.told(found.noise_std)
    lines = [f"noise of one training: {noise} ({found.degrees} degrees of freedom)"]
    d = found.against_largest
    if d is not None:
        lines.append(
            f"the search's best, trial {d.better}, beats the largest feasible model with "
            f"probability {_chance(d.probability)}: difference "
            f"{measure.told_difference(d.mean, d.low, d.high)}"
        )
    return "\n".join(lines)
