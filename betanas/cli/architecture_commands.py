"""Commands that need no trial: architectures, study files.

Each imports what it needs when it runs, so that ``--help`` answers at once.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from betanas.cli.app import app, example
from betanas.cli.begun import load_begun, trial_kernel
from betanas.cli.options import (
    MOST_IMAGES,
    JsonOption,
    SetOption,
    StorageOption,
    ends_well,
    err,
    out,
    print_json,
    say,
)
from betanas.errors import InputError

if TYPE_CHECKING:
    from betanas.study.definition import StudyDefinition

_OBJECT = """a JSON object such as '{"k": 3.2, ...}'"""


@app.command(
    epilog=example("betanas describe --family betanet2 --resolution 224 --classes 100 --published")
)
@ends_well
def describe(
    family: Annotated[
        str | None, typer.Option(help="betanet2, betanet3, efficientnet, ...")
    ] = None,
    resolution: Annotated[int | None, typer.Option(help="Input side in pixels.")] = None,
    classes: Annotated[int | None, typer.Option(help="Number of classes.")] = None,
    parameters: Annotated[
        str | None, typer.Option(metavar="JSON", help="The kernel as a JSON object.")
    ] = None,
    published: Annotated[
        bool, typer.Option("--published", help="The family's published kernel.")
    ] = False,
    study: Annotated[str | None, typer.Option(help="Take the kernel from this study.")] = None,
    model: Annotated[
        str | None, typer.Option(help="Any model that betanas train takes, such as resnet50.")
    ] = None,
    trial: Annotated[int | None, typer.Option(help="The study's trial of this number.")] = None,
    best: Annotated[bool, typer.Option("--best", help="The study's observed best trial.")] = False,
    batch_size: Annotated[
        int | None, typer.Option(min=1, max=MOST_IMAGES, help="Images of a training step.")
    ] = None,
    storage: StorageOption = None,
    set_: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show the layer table of one architecture."""
    from betanas.architecture.complexity import count
    from betanas.architecture.decoding import decode
    from betanas.architecture.families import find_family
    from betanas.cli.tables import architecture_json, print_architecture

    speed = None
    _check_source(family, study, model, of_study=trial is not None or best)
    if model is not None:
        _describe_model(
            model, resolution, classes, batch_size or 100, storage, set_ or [], as_json=as_json
        )
        return
    if family is not None:
        chosen = find_family(family)
        if (parameters is None) == (not published):
            raise InputError("describe --family takes either --parameters JSON or --published")
        own = chosen.published_for or (None, None)
        resolution = own[0] if resolution is None else resolution
        classes = own[1] if classes is None else classes
        if resolution is None or classes is None:
            raise InputError("describe --family needs --resolution and --classes")
        kernel = chosen.published if parameters is None else _parse_kernel(parameters)
        chosen.vector(kernel, chosen.ranges)
        images = batch_size or 100
    else:
        definition, stored = load_begun(str(study), storage, set_)
        if (trial is None) == (not best):
            raise InputError("describe --study takes either --trial N or --best")
        kernel = trial_kernel(stored, trial)
        chosen = definition.search_family
        resolution = definition.resolution if resolution is None else resolution
        classes = len(stored.settings.classes) if classes is None else classes
        images = batch_size or definition.recipe.batch_size
        if resolution == definition.resolution:
            from betanas.jobs.timing import predicted_speed

            speed = predicted_speed(definition, stored, kernel)
    architecture = decode(chosen, kernel, resolution, classes)
    complexity = count(architecture, images)
    if as_json:
        told = {"predicted": asdict(speed)} if speed else {}
        print_json(architecture_json(architecture, complexity) | told)
    else:
        print_architecture(out, architecture, complexity, images)
        if speed:
            say(f"predicted where the study runs: {speed}")


def _check_source(
    family: str | None, study: str | None, model: str | None, *, of_study: bool
) -> None:
    """One source, and nothing of another one.

    Raises:
        InputError: Otherwise.
    """
    if sum(given is not None for given in (family, study, model)) != 1:
        raise InputError("describe takes either --family or --study or --model")
    if study is None and of_study:
        raise InputError("--trial and --best are of a study; give --study, or leave them out")


def _describe_model(
    model: str,
    resolution: int | None,
    classes: int | None,
    images: int,
    storage: str | None,
    overrides: list[str],
    *,
    as_json: bool,
) -> None:
    """Shows a network by its name; of others' networks the counts alone."""
    from betanas.architecture.complexity import count
    from betanas.architecture.reference import ReferenceModel
    from betanas.cli.tables import architecture_json, print_architecture
    from betanas.jobs.costs import counts_of
    from betanas.jobs.model_names import find_model, meant_for

    if resolution is None or classes is None:
        own = meant_for(model, storage, overrides)
        resolution = own[0] if resolution is None else resolution
        classes = own[1] if classes is None else classes
    network = find_model(model, resolution, classes, storage, overrides).network
    if not isinstance(network, ReferenceModel):
        complexity = count(network, images)
        if as_json:
            print_json(architecture_json(network, complexity))
        else:
            print_architecture(out, network, complexity, images)
        return
    num_params, macs = counts_of(network)
    if as_json:
        told = {"resolution": network.resolution, "num_classes": network.num_classes, "layers": []}
        print_json(told | {"num_params": num_params, "macs": macs})
    else:
        say(
            f"{network.name} at R={network.resolution}, {network.num_classes} classes: "
            f"{num_params:,} parameters, {macs:,} multiply-adds"
        )


@app.command(epilog=example("betanas check studies/mine.toml"))
@ends_well
def check(
    file: Annotated[str, typer.Argument(help="A study file, or a built-in study's name.")],
    data: Annotated[str | None, typer.Option(help="Folder of images.")] = None,
    set_: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Validate a study file and estimate how much of its space is feasible."""
    from betanas.study.loading import load_definition

    definition = load_definition(file, set_ or (), data)
    from betanas.data import describe_dataset
    from betanas.errors import DataError
    from betanas.objectives import find_objective
    from betanas.search.plan import planned_problem
    from betanas.study.agreement import refuse_unread_ranges

    refuse_unread_ranges(definition)
    find_objective(definition.objective.name)
    notes = []
    try:
        reads_images = definition.objective.reads_images
        classes = describe_dataset(definition.dataset, reads_images=reads_images).num_classes
    except DataError as error:
        if data is not None:  # who names a folder wants to know
            raise
        classes = 100 if definition.dataset.name == "cifar100" else 10
        notes.append(f"{error}; {classes} classes assumed")
    definition, kind, memory, scaled = _begun_here(definition)
    problem = planned_problem(definition, classes, memory, scaled, kind)
    problem.check_feasible()
    fraction = problem.feasible_fraction()
    ranges = {name: list(r) for name, r in definition.ranges.items()}
    if as_json:
        print_json(
            {
                "ok": True,
                "feasible_fraction": fraction,
                "parameters": ranges,
                "sobol_phase": problem.sobol_length,
                "notes": notes,
            }
        )
        return
    say(
        f"{definition.name} is valid: {fraction:.1%} of its space is feasible, "
        f"its Sobol phase takes {problem.sobol_length} trials"
    )
    for note in notes:
        say(f"note: {note}", err)


@app.command(epilog=example("betanas studies"))
@ends_well
def studies(as_json: JsonOption = False) -> None:
    """List the built-in studies."""
    from betanas.study.loading import built_in_studies, load_definition

    found = [load_definition(path.stem) for path in built_in_studies()]
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
        say(
            f"{d.name:<22} {d.family} at R={d.resolution} on {d.dataset.name}: "
            f"{d.search.trials} trials of {d.budget.amount:g} {d.budget.unit}"
        )


def _parse_kernel(text: str) -> dict[str, float]:
    try:
        kernel = json.loads(text)
    except json.JSONDecodeError as error:
        raise InputError(f"--parameters must be {_OBJECT}, but got {text!r}: {error}") from None
    if not isinstance(kernel, dict):
        raise InputError(f"--parameters must be {_OBJECT}, but got {text!r}")
    return kernel


def _begun_here(
    definition: StudyDefinition,
) -> tuple[StudyDefinition, str, int | None, int | None]:
    """A study as it would begin here: its precision, kind of device and memory limits in bytes.

    Torch is asked only where there is a limit of memory.
    """
    from betanas.study.feasibility import memory_bytes

    scaled = definition.limits.scaled
    wanted = [definition.limits.memory_gib, scaled.memory_gib if scaled else "none"]
    if set(wanted) == {"none"}:
        return definition, "cpu", None, None
    from betanas.database.settings import precision_here
    from betanas.devices.find import find_devices

    devices = find_devices("auto", None, claim=False)
    if found := precision_here(definition, devices):
        recipe = definition.recipe.model_copy(update={"precision": found})
        definition = definition.model_copy(update={"recipe": recipe})
    ordinary, larger = (memory_bytes(limit, devices.memory_bytes) for limit in wanted)
    return definition, devices.kind, ordinary, larger
