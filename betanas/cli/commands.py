"""The commands. Each imports what it needs when it runs, so that ``--help`` answers at once."""

import json
from typing import Annotated, Any

import typer

from betanas.cli.options import (
    JsonOption,
    SetOption,
    StorageOption,
    StudyOption,
    ends_well,
    err,
    out,
    per_cent,
    print_json,
    short,
    storage_url,
)
from betanas.errors import InputError

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    help="Searches for the convolutional network that fits your images, hardware and time.",
    epilog="Begin with: betanas optimize --study digits",
)


def _example(line: str) -> str:
    return f"Example: {line}"


@app.callback(invoke_without_command=True)
def _root(
    version: Annotated[bool, typer.Option("--version", help="Show the version and exit.")] = False,
) -> None:
    if version:
        from betanas import __version__

        typer.echo(f"betanas {__version__}")
        raise typer.Exit


@app.command(
    epilog=_example("betanas optimize --study pictures --data ~/photos --nproc-per-node auto")
)
@ends_well
def optimize(
    study: StudyOption,
    data: Annotated[
        str | None, typer.Option(help="Folder of images: FOLDER/train/CLASS/*.jpg, FOLDER/test/...")
    ] = None,
    trials: Annotated[
        int | None,
        typer.Option(help="Add so many trials of any kind, instead of working towards the target."),
    ] = None,
    nproc_per_node: Annotated[
        str, typer.Option(metavar="N|auto", help="Ranks that train one model together.")
    ] = "auto",
    device: Annotated[str, typer.Option(metavar="auto|cpu|cuda", help="Where to train.")] = "auto",
    storage: StorageOption = None,
    set_: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Start or resume a study until its target of trials is met."""
    from betanas.study.loading import load_study

    definition = load_study(study, set_ or (), data)
    url = storage_url(definition, storage)
    ranks = _ranks(nproc_per_node)
    err.print("loading ...", style="dim")
    import optuna

    from betanas.analysis.status import observed_best
    from betanas.cli.progress import SearchProgress
    from betanas.optimize import optimize as run

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    with SearchProgress(err) as progress:
        stored = run(definition, url, device, ranks, trials, progress)
    best = observed_best(stored.records())
    same = f"--study {study}" + (f" --storage {storage}" if storage else "")
    if best is not None:
        err.print(
            f"\nbest: trial {best.number} with {per_cent(best.value)} validation accuracy, "
            f"{short(best.num_params)} parameters, {short(best.macs)} multiply-adds",
            highlight=False,
        )
        if not as_json:
            _print_trial(definition, stored, best.number)
        err.print(
            f"next: betanas best {same}\n"
            f"      betanas describe {same} --trial {best.number}\n"
            f"      betanas trials {same}\n"
            f"      betanas dashboard {same}",
            highlight=False,
            markup=False,
        )
    if as_json:
        print_json(_status(definition, stored))


@app.command(epilog=_example("betanas status --study digits --json"))
@ends_well
def status(
    study: StudyOption,
    storage: StorageOption = None,
    set_: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show where a study stands."""
    definition, stored = _load(study, storage, set_)
    summary = _status(definition, stored)
    if as_json:
        print_json(summary)
        return
    trials = ", ".join(f"{n} {state}" for state, n in summary["trials"].items() if n)
    out.print(f"study     {summary['study']}", highlight=False)
    out.print(f"trials    {trials or 'none yet'}", highlight=False)
    out.print(
        f"feasible  {summary['feasible']} of {summary['target']} ({summary['sobol']} Sobol points)",
        highlight=False,
    )
    for kind in ("rejected", "failed"):
        if summary[kind]:
            counts = ", ".join(f"{reason} {n}" for reason, n in summary[kind].items())
            out.print(f"{kind:<9} {counts}", highlight=False)
    if summary["best"]:
        best = summary["best"]
        out.print(f"best      {per_cent(best['value'])} (trial {best['number']})", highlight=False)
    _print_warnings(summary["warnings"])


@app.command(epilog=_example("betanas trials --study digits --csv > trials.csv"))
@ends_well
def trials(
    study: StudyOption,
    storage: StorageOption = None,
    set_: SetOption = None,
    csv: Annotated[bool, typer.Option("--csv", help="Print comma-separated values.")] = False,
    as_json: JsonOption = False,
) -> None:
    """List the trials, one row each."""
    from betanas.analysis.status import audit_warnings
    from betanas.cli.tables import print_trials, trials_csv

    _, stored = _load(study, storage, set_)
    records = stored.records()
    if as_json:
        print_json(
            [{**r.to_json(), "warnings": audit_warnings(r)} for r in records]
        )
    elif csv:
        typer.echo(trials_csv(records), nl=False)
    else:
        print_trials(out, records)
        _print_warnings([w for r in records for w in audit_warnings(r)])


@app.command(epilog=_example("betanas best --study digits"))
@ends_well
def best(
    study: StudyOption,
    storage: StorageOption = None,
    set_: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show the observed and the recommended best kernel."""
    definition, stored = _load(study, storage, set_)
    from dataclasses import asdict

    from betanas.analysis.status import observed_best
    from betanas.cli.tables import print_kernels
    from betanas.search.plan import sobol_phase
    from betanas.search.recommend import recommend

    records = stored.records()
    observed = observed_best(records)
    phase = sobol_phase(definition, stored.settings)
    recommended = recommend(phase.space, phase.feasibility, records, definition.search.seed)
    if as_json:
        print_json(
            {
                "observed": None
                if observed is None
                else {
                    "number": observed.number,
                    "value": observed.value,
                    "parameters": dict(observed.parameters),
                },
                "recommended": asdict(recommended) if recommended else None,
            }
        )
        return
    if observed is None:
        out.print("no trial is complete yet")
        return
    columns = {f"observed (trial {observed.number})": observed.parameters}
    if recommended is not None:
        columns["recommended"] = recommended.parameters
    print_kernels(out, columns)
    out.print(f"observed     {per_cent(observed.value)}", highlight=False)
    if recommended is not None:
        out.print(
            f"recommended  {per_cent(recommended.predicted_value)} predicted, "
            f"standard deviation {per_cent(recommended.predicted_std)}",
            highlight=False,
        )


@app.command(
    epilog=_example("betanas describe --family betanet2 --resolution 224 --classes 100 --published")
)
@ends_well
def describe(
    family: Annotated[str | None, typer.Option(help="betanet2 or betanet3.")] = None,
    resolution: Annotated[int | None, typer.Option(help="Input side in pixels.")] = None,
    classes: Annotated[int | None, typer.Option(help="Number of classes.")] = None,
    parameters: Annotated[
        str | None, typer.Option(metavar="JSON", help="The kernel as a JSON object.")
    ] = None,
    published: Annotated[
        bool, typer.Option("--published", help="The family's published kernel.")
    ] = False,
    study: Annotated[str | None, typer.Option(help="Take the kernel from this study.")] = None,
    trial: Annotated[int | None, typer.Option(help="The study's trial of this number.")] = None,
    best: Annotated[bool, typer.Option("--best", help="The study's observed best trial.")] = False,
    batch_size: Annotated[int | None, typer.Option(help="Images of a training step.")] = None,
    storage: StorageOption = None,
    set_: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show the layer table of one architecture."""
    from betanas.architecture.complexity import count
    from betanas.architecture.decoding import decode
    from betanas.architecture.families import find_family
    from betanas.cli.tables import architecture_json, print_architecture

    if (family is None) == (study is None):
        raise InputError("describe takes either --family or --study")
    if family is not None:
        chosen = find_family(family)
        if (parameters is None) == (not published):
            raise InputError("describe --family takes either --parameters JSON or --published")
        if resolution is None or classes is None:
            raise InputError("describe --family needs --resolution and --classes")
        kernel = chosen.published if parameters is None else _parse_kernel(parameters)
        chosen.vector(kernel, chosen.ranges)
        images = batch_size or 100
    else:
        definition, stored = _load(str(study), storage, set_)
        if (trial is None) == (not best):
            raise InputError("describe --study takes either --trial N or --best")
        kernel = _trial_kernel(stored, trial)
        chosen = definition.search_family
        resolution = resolution or definition.resolution
        classes = classes or len(stored.settings.classes)
        images = batch_size or definition.recipe.batch_size
    architecture = decode(chosen, kernel, resolution, classes)
    complexity = count(architecture, images)
    if as_json:
        print_json(architecture_json(architecture, complexity))
    else:
        print_architecture(out, architecture, complexity, images)


@app.command(epilog=_example("betanas check studies/mine.toml"))
@ends_well
def check(
    file: Annotated[str, typer.Argument(help="A study file, or a built-in study's name.")],
    data: Annotated[str | None, typer.Option(help="Folder of images.")] = None,
    set_: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Validate a study file and estimate how much of its space is feasible."""
    from betanas.study.loading import load_study

    definition = load_study(file, set_ or (), data)
    from betanas.data import describe_dataset
    from betanas.errors import DataError
    from betanas.search.space import SobolPhase, Space
    from betanas.study.feasibility import study_feasibility

    notes = []
    try:
        classes = describe_dataset(definition.dataset).num_classes
    except DataError as error:
        classes = 100 if definition.dataset.name == "cifar100" else 10
        notes.append(f"{error}; {classes} classes assumed")
    memory, scaled = _memory_limits(definition)
    search = definition.search
    phase = SobolPhase(
        Space.of(definition),
        study_feasibility(definition, classes, memory, scaled),
        search.seed,
        search.sobol_trials,
        search.min_feasible,
    )
    phase.check_feasible()
    fraction = phase.feasible_fraction()
    ranges = {name: list(r) for name, r in definition.parameters.items()}
    if as_json:
        print_json(
            {
                "ok": True,
                "feasible_fraction": fraction,
                "parameters": ranges,
                "sobol_phase": phase.length,
                "notes": notes,
            }
        )
        return
    out.print(
        f"{definition.name} is valid: {fraction:.1%} of its space is feasible, "
        f"its Sobol phase takes {phase.length} trials",
        highlight=False,
    )
    for note in notes:
        err.print(f"note: {note}", highlight=False, markup=False)


@app.command(epilog=_example("betanas studies"))
@ends_well
def studies(as_json: JsonOption = False) -> None:
    """List the built-in studies."""
    from betanas.study.loading import built_in_studies, load_study

    found = [load_study(path.stem) for path in built_in_studies()]
    if as_json:
        print_json(
            [
                {
                    "name": d.name,
                    "family": d.family,
                    "resolution": d.resolution,
                    "dataset": d.dataset.name,
                    "budget": {d.budget.unit: d.budget.amount},
                    "trials": d.search.trials,
                }
                for d in found
            ]
        )
        return
    for d in found:
        out.print(
            f"{d.name:<10} {d.family} at R={d.resolution} on {d.dataset.name}: "
            f"{d.search.trials} trials of {d.budget.amount:g} {d.budget.unit}",
            highlight=False,
        )


@app.command(epilog=_example("betanas dashboard --study digits --port 8080"))
@ends_well
def dashboard(
    study: StudyOption,
    port: Annotated[int, typer.Option(min=1, max=65535, help="TCP port on 127.0.0.1.")] = 8080,
    storage: StorageOption = None,
    set_: SetOption = None,
) -> None:
    """Browse the study with optuna-dashboard, on this machine only."""
    import socket

    definition, stored = _load(study, storage, set_)
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            raise InputError(
                f"--port {port} cannot be used ({error.strerror}); choose another"
            ) from None
    from optuna_dashboard import run_server

    err.print(f"{definition.name} on http://127.0.0.1:{port}/ - Ctrl-C ends it", highlight=False)
    run_server(stored.database, host="127.0.0.1", port=port)


def _load(study: str, storage: str | None, set_: list[str] | None) -> Any:
    """A study file and its database, which must have begun."""
    from betanas.study.loading import load_study

    definition = load_study(study, set_ or ())
    url = storage_url(definition, storage)
    import optuna

    from betanas.search.storage import StoredStudy

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return definition, StoredStudy.load(url, definition.name)


def _status(definition: Any, stored: Any) -> dict[str, Any]:
    from betanas.analysis.status import summarize

    return summarize(definition.name, stored.records(), definition.search.trials)


def _ranks(nproc_per_node: str) -> int | None:
    if nproc_per_node == "auto":
        return None
    if not nproc_per_node.isdecimal() or int(nproc_per_node) < 1:
        raise InputError(f"--nproc-per-node must be auto or >= 1, but got {nproc_per_node!r}")
    return int(nproc_per_node)


def _parse_kernel(text: str) -> dict[str, float]:
    try:
        kernel = json.loads(text)
    except json.JSONDecodeError as error:
        raise InputError(f"--parameters must be a JSON object: {error}") from None
    if not isinstance(kernel, dict):
        raise InputError(f"--parameters must be a JSON object, but got {text}")
    return kernel


def _trial_kernel(stored: Any, number: int | None) -> dict[str, float]:
    from betanas.analysis.status import observed_best

    records = stored.records()
    if number is None:
        record = observed_best(records)
        if record is None:
            raise InputError("the study has no complete trial yet")
    elif not 0 <= number < len(records):
        raise InputError(f"--trial must be in [0, {len(records) - 1}], but got {number}")
    else:
        record = records[number]
    return dict(record.parameters)


def _memory_limits(definition: Any) -> tuple[int | None, int | None]:
    """Memory limits in bytes; torch is asked only where a limit is the device's."""
    from betanas.study.feasibility import memory_bytes

    scaled = definition.limits.scaled
    wanted = [definition.limits.memory_gib, scaled.memory_gib if scaled else "none"]
    device = 0
    if "auto" in wanted:
        from betanas.training.device import find_devices

        device = find_devices("auto", None).memory_bytes
    ordinary, larger = (memory_bytes(limit, device) for limit in wanted)
    return ordinary, larger


def _print_trial(definition: Any, stored: Any, number: int) -> None:
    from betanas.architecture.complexity import count
    from betanas.architecture.decoding import decode
    from betanas.cli.tables import print_architecture

    architecture = decode(
        definition.search_family,
        _trial_kernel(stored, number),
        definition.resolution,
        len(stored.settings.classes),
    )
    images = definition.recipe.batch_size
    print_architecture(out, architecture, count(architecture, images), images)


def _print_warnings(warnings: list[str]) -> None:
    for warning in warnings[:3]:
        err.print(f"warning: {warning}", style="yellow", highlight=False)
    if len(warnings) > 3:
        err.print(f"warning: ... and {len(warnings) - 3} more", style="yellow", highlight=False)


