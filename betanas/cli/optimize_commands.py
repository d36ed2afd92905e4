"""The command that runs a study.

It imports what it needs when it runs, so that ``--help`` answers at once.
"""

from __future__ import annotations

from shlex import quote
from typing import TYPE_CHECKING, Annotated, Any

import typer

from betanas.cli.app import app, example
from betanas.cli.begun import trial_kernel
from betanas.cli.options import (
    DeviceOption,
    JsonOption,
    RanksOption,
    SetOption,
    StorageOption,
    StudyOption,
    WorkersOption,
    ends_well,
    err,
    out,
    parse_ranks,
    parse_workers,
    per_cent,
    print_json,
    say,
    short,
)
from betanas.cli.study_commands import print_finals, status_json
from betanas.errors import InputError
from betanas.jobs.load import storage_url

if TYPE_CHECKING:
    from betanas.database.stored import StoredStudy
    from betanas.launcher.rendezvous import Node
    from betanas.study.definition import StudyDefinition


@app.command(
    epilog=example("betanas optimize --study pictures --data ~/photos --nproc-per-node auto")
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
    workers: WorkersOption = "1",
    nproc_per_node: RanksOption = "auto",
    device: DeviceOption = "auto",
    nnodes: Annotated[
        int,
        typer.Option(
            help="Machines that train one model together; needs $BETANAS_TOKEN, see docs/nodes.md."
        ),
    ] = 1,
    rdzv_endpoint: Annotated[
        str | None,
        typer.Option(metavar="HOST:PORT", help="Of node 0; the port after it is used too."),
    ] = None,
    node_rank: Annotated[
        int | None, typer.Option(help="Which node this is; node 0 owns the study.")
    ] = None,
    widen: Annotated[
        bool,
        typer.Option(
            "--widen",
            help="Go on with wider ranges where the best kernels press against an end: begins the "
            "study STUDY-wide with the trials so far, and writes its file.",
        ),
    ] = False,
    finals: Annotated[
        str | None,
        typer.Option(
            metavar="TIME",
            help="Then train the best again, for ever longer up to this, such as 15m: which "
            "network is the best for so long a training? Short for --set search.finals=TIME.",
        ),
    ] = None,
    warm_start: Annotated[
        str | None,
        typer.Option(
            metavar="STUDY",
            help="Begin a new study from what another one of its family has measured, also of "
            "other images, resolution or budget. Short for --set search.warm_start=STUDY.",
        ),
    ] = None,
    storage: StorageOption = None,
    set_: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Start or resume a study until its target of trials is met."""
    import os

    from betanas.launcher.rendezvous import Node
    from betanas.study.loading import finals_override, load_definition, warm_start_override

    own = [*finals_override(finals), *warm_start_override(warm_start)]
    definition = load_definition(study, [*(set_ or ()), *own], data)
    url = storage_url(definition, storage)
    ranks, several = parse_ranks(nproc_per_node), parse_workers(workers)
    token = os.environ.get("BETANAS_TOKEN", "")
    node = Node.from_options(nnodes, rdzv_endpoint, node_rank, token)
    if widen:
        definition, study = _widened(study, definition, storage, node, own)
        url = storage_url(definition, storage)
    if node is not None:  # a connection that ends is told of in one line, not in torch's thirty
        os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")
    say("loading ...", err, "dim")
    if node is not None and node.node_rank > 0:
        answer = _follow(definition, url, device, ranks, node)
    else:
        from betanas.cli.progress import SearchProgress, tracked
        from betanas.jobs.load import quiet_optuna
        from betanas.jobs.optimize import SearchOptions
        from betanas.jobs.workers import search

        with quiet_optuna(), SearchProgress(err) as progress:
            reporter = tracked(definition, url, progress)
            options = SearchOptions(device, ranks, trials, node)
            stored = search(definition, url, options, reporter, several)
        place = _place(data, storage, set_ or [])
        _say_best(definition, stored, study, place, architecture=not as_json)
        answer = status_json(definition, stored) if as_json else {}
    if as_json:
        print_json(answer)


def _follow(
    definition: StudyDefinition, url: str, device: str, ranks: int | None, node: Node
) -> dict[str, Any]:
    """The part of a node that owns no study, and what it took part in."""
    from betanas.jobs.follow import follow

    trainings = follow(definition, url, device, ranks, node, lambda text: say(text, err))
    say(f"node 0 has ended; this node took part in {trainings} trainings", err)
    return {"node_rank": node.node_rank, "trainings": trainings}


def _say_best(
    definition: StudyDefinition,
    stored: StoredStudy,
    study: str,
    place: tuple[str, str],
    *,
    architecture: bool,
) -> None:
    """What a search has found, and what to do with it, to be pasted into a shell."""
    from betanas.analysis.status import observed_best
    from betanas.trial import whole

    best = observed_best(whole(definition, stored.records()))
    if best is None:
        return
    objective = definition.objective.name
    what = "validation accuracy" if objective in ("train", "table") else objective
    say(
        f"\nbest: trial {best.number} with {per_cent(best.accuracy)} {what}, "
        f"{short(best.num_params)} parameters, {short(best.macs)} multiply-adds",
        err,
    )
    if architecture:
        _print_trial(definition, stored, best.number)
    found = print_finals(stored, err)
    which = "best" if len(stored.objectives) == 1 else "front:0"
    which = "final" if found else which
    (database, images), name = place, quote(study)
    same = f"--study {name}{database}"
    say(
        f"next: betanas best {same}\n"
        f"      betanas describe {same} --trial {best.number}\n"
        f"      betanas trials {same}\n"
        f"      betanas dashboard {same}\n"
        f"      betanas train --model {name}:{which}{images}{database}",
        err,
    )


def _place(data: str | None, storage: str | None, overrides: list[str]) -> tuple[str, str]:
    """Options for where database and images are: all else that it began with a study knows."""

    def words(option: str, value: str | None, section: str) -> str:
        found = [] if value is None else [f"--{option} {quote(value)}"]
        found += [f"--set {quote(o)}" for o in overrides if o.strip().startswith(section)]
        return "".join(f" {word}" for word in found)

    return words("storage", storage, "storage"), words("data", data, "dataset")


def _widened(
    study: str,
    definition: StudyDefinition,
    storage: str | None,
    node: Node | None,
    overrides: list[str],
) -> tuple[StudyDefinition, str]:
    """The study of wider ranges, and its file."""
    from betanas.jobs.load import quiet_optuna
    from betanas.jobs.widen import begin_wider
    from betanas.study.loading import load_definition

    if node is not None:
        raise InputError(
            "--widen is for one machine; once it has begun, give all nodes the file that it wrote"
        )
    with quiet_optuna():
        file = begin_wider(study, definition, storage)
    say(f"{file} has the wider ranges: from now on, --study {file}", err)
    return load_definition(file, overrides), str(file)


def _print_trial(definition: StudyDefinition, stored: StoredStudy, number: int) -> None:
    from betanas.architecture.complexity import count
    from betanas.architecture.decoding import decode
    from betanas.cli.tables import print_architecture

    architecture = decode(
        definition.search_family,
        trial_kernel(stored, number),
        definition.resolution,
        len(stored.settings.classes),
    )
    images = definition.recipe.batch_size
    print_architecture(out, architecture, count(architecture, images), images)
