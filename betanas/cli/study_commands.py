"""Commands that run a study or read its trials.

Each imports what it needs when it runs, so that ``--help`` answers at once.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Annotated, Any

import typer

from betanas.cli.app import app, example
from betanas.cli.begun import load_begun, trial_kernel
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
from betanas.errors import InputError
from betanas.jobs.load import storage_url

if TYPE_CHECKING:
    from rich.console import Console

    from betanas.analysis.ranges import RangeAdvice
    from betanas.database.stored import StoredStudy
    from betanas.launcher.rendezvous import Node
    from betanas.search.quality import ModelQuality
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
    storage: StorageOption = None,
    set_: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Start or resume a study until its target of trials is met."""
    import os

    from betanas.launcher.rendezvous import Node
    from betanas.study.loading import finals_override, load_definition

    set_ = [*(set_ or ()), *finals_override(finals)]
    definition = load_definition(study, set_, data)
    url = storage_url(definition, storage)
    ranks, several = parse_ranks(nproc_per_node), parse_workers(workers)
    token = os.environ.get("BETANAS_TOKEN", "")
    node = Node.from_options(nnodes, rdzv_endpoint, node_rank, token)
    if widen:
        definition, study = _widened(study, definition, storage, node, finals)
        url = storage_url(definition, storage)
    if node is not None:  # a connection that ends is told of in one line, not in torch's thirty
        os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")
    say("loading ...", err, "dim")
    if node is not None and node.node_rank > 0:
        from betanas.jobs.follow import follow

        trainings = follow(definition, url, device, ranks, node, lambda text: say(text, err))
        say(f"node 0 has ended; this node took part in {trainings} trainings", err)
        if as_json:
            print_json({"node_rank": node.node_rank, "trainings": trainings})
        return
    import optuna

    from betanas.cli.progress import SearchProgress, tracked
    from betanas.jobs.workers import search

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    with SearchProgress(err) as progress:
        reporter = tracked(definition, url, progress)
        stored = search(definition, url, device, ranks, trials, reporter, node, several)
    options = {"data": data, "storage": storage}
    _say_best(definition, stored, study, options, architecture=not as_json)
    if as_json:
        print_json(_status(definition, stored))


def _say_best(
    definition: StudyDefinition,
    stored: StoredStudy,
    study: str,
    options: dict[str, str | None],
    *,
    architecture: bool,
) -> None:
    """What a search has found, and what to do with it."""
    from betanas.analysis.status import observed_best

    best = observed_best(stored.records())
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
    found = _print_finals(stored, err)
    which = "best" if len(stored.objectives) == 1 else "front:0"
    which = "final" if found else which
    storage = options["storage"]
    same = f"--study {study}" + (f" --storage {storage}" if storage else "")
    say(
        f"next: betanas best {same}\n"
        f"      betanas describe {same} --trial {best.number}\n"
        f"      betanas trials {same}\n"
        f"      betanas dashboard {same}\n"
        f"      betanas train --model {study}:{which}"
        + "".join(f" --{k} {v}" for k, v in options.items() if v),
        err,
    )


@app.command(epilog=example("betanas status --study digits --json"))
@ends_well
def status(
    study: StudyOption,
    storage: StorageOption = None,
    set_: SetOption = None,
    watch: Annotated[
        bool, typer.Option("--watch", help="Follow the study until its target is met.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Show where a study stands."""
    definition, stored = load_begun(study, storage, set_)
    if watch:
        from betanas.cli.watch import follow

        follow(definition, stored, storage_url(definition, storage), err)
    summary = _status(definition, stored)
    if as_json:
        print_json(summary)
        return
    from betanas.analysis.status import told_result

    trials = ", ".join(f"{n} {state}" for state, n in summary["trials"].items() if n)
    say(f"study     {summary['study']}")
    say(f"trials    {trials or 'none yet'}")
    say(f"feasible  {summary['feasible']} of {summary['target']} ({summary['sobol']} Sobol points)")
    for kind in ("rejected", "failed"):
        if summary[kind]:
            counts = ", ".join(f"{reason} {n}" for reason, n in summary[kind].items())
            say(f"{kind:<9} {counts}")
    if summary["best"]:
        best = stored.record(summary["best"]["number"])
        say(f"best      {told_result(best)} (trial {best.number})")
    if "front" in summary:
        numbers = ", ".join(str(point["number"]) for point in summary["front"])
        say(f"front     {', '.join(summary['objectives'])}: trials {numbers}")
        say(f"volume    {summary['hypervolume']:.4g} dominated by the front")
    if summary["replicates"]:
        say(f"repeated  {summary['replicates']} trainings with other seeds")
    _print_finals(stored, out, indent=10)
    _print_advice(study, storage, _advice(definition, stored), indent=10)
    _print_warnings(summary["warnings"])


@app.command(epilog=example("betanas trials --study digits --csv > trials.csv"))
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

    _, stored = load_begun(study, storage, set_)
    records = stored.records()
    if as_json:
        print_json([{**r.to_json(), "warnings": audit_warnings(r)} for r in records])
    elif csv:
        typer.echo(trials_csv(records), nl=False)
    else:
        print_trials(out, records)
        _print_warnings([w for r in records for w in audit_warnings(r)])


@app.command(epilog=example("betanas best --study digits"))
@ends_well
def best(
    study: StudyOption,
    storage: StorageOption = None,
    set_: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show the observed and the recommended best kernel."""
    definition, stored = load_begun(study, storage, set_)
    from betanas.analysis.finals import finals_of
    from betanas.analysis.status import observed_best, result_json, told_result, told_value
    from betanas.cli.tables import print_front, print_kernels
    from betanas.jobs.front import front_of
    from betanas.jobs.recommend import recommended

    records = stored.records()
    observed = observed_best(records)
    believed = recommended(definition, stored.settings, records)
    front, finals = front_of(stored), finals_of(stored)
    if as_json:
        print_json(
            {
                "observed": None
                if observed is None
                else result_json(observed) | {"parameters": dict(observed.parameters)},
                "recommended": believed.to_json() if believed else None,
                "range_advice": [a.to_json() for a in _advice(definition, stored)],
                **(front.to_json() if front else {}),
                **({"finals": finals.to_json()} if finals else {}),
            }
        )
        return
    if observed is None:
        say("no trial is complete yet")
        return
    columns = {f"observed (trial {observed.number})": observed.parameters}
    if believed is not None:
        columns["recommended"] = believed.parameters
    if finals is not None and finals.winner is not None:
        columns["final"] = finals.winner.parameters
    print_kernels(out, columns)
    say(f"observed     {told_result(observed)}")
    if believed is not None:
        shown = partial(told_value, weighed=observed.is_weighed)
        what = "weighed value predicted" if observed.is_weighed else "predicted"
        say(
            f"recommended  {shown(believed.predicted_value)} {what}, "
            f"standard deviation {shown(believed.predicted_std)}; {_quality(believed.quality)}"
        )
    _print_finals(stored, out, indent=13)
    _print_advice(study, storage, _advice(definition, stored), indent=13)
    if front is not None:
        print_front(out, front)
        say(f"next         betanas train --model {study}:front:0 (to {len(front.trials) - 1})", err)


@app.command(epilog=example("betanas dashboard --study digits --port 8080"))
@ends_well
def dashboard(
    study: StudyOption,
    port: Annotated[int, typer.Option(min=1, max=65535, help="TCP port.")] = 8080,
    host: Annotated[
        str, typer.Option(help="Address to listen on; only 127.0.0.1 without --allow-remote.")
    ] = "127.0.0.1",
    allow_remote: Annotated[
        bool,
        typer.Option(
            "--allow-remote",
            help="Let other machines in. There is no password: whoever reaches the address reads, "
            "changes and deletes what the database holds.",
        ),
    ] = False,
    storage: StorageOption = None,
    set_: SetOption = None,
) -> None:
    """Browse the study with optuna-dashboard, on this machine only."""
    _check_host(host, allow_remote=allow_remote)
    definition, stored = load_begun(study, storage, set_)
    _check_port(host, port)
    from optuna_dashboard import run_server

    from betanas.jobs.dashboard import open_artifacts, prepare_in_background

    artifacts = open_artifacts(storage_url(definition, storage), definition.name)
    prepare_in_background(
        definition, stored, artifacts, lambda text: say(f"warning: {text}", err, "yellow")
    )
    if allow_remote:
        say(f"warning: whoever reaches {host} port {port} can change the study", err, "yellow")
    say(f"{definition.name} on http://{host}:{port}/ - Ctrl-C ends it", err)
    run_server(stored.database, host=host, port=port, artifact_store=artifacts)


def _check_host(host: str, *, allow_remote: bool) -> None:
    """Refuses to let other machines in, unless that is what the user asks for by name."""
    if host not in ("127.0.0.1", "localhost", "::1") and not allow_remote:
        raise InputError(
            f"--host must be 127.0.0.1, but got {host}: the dashboard has no password, and "
            "whoever reaches it can change the study; from elsewhere use "
            "ssh -L 8080:127.0.0.1:8080, or add --allow-remote on a network that you trust"
        )


def _check_port(host: str, port: int) -> None:
    import socket

    try:
        family = socket.getaddrinfo(host, port)[0][0]
        with socket.socket(family) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((host, port))
    except OSError as error:
        told = f"({error.strerror or error})"
        raise InputError(
            f"--host {host} --port {port} cannot be used {told}; choose another"
        ) from None


def _widened(
    study: str,
    definition: StudyDefinition,
    storage: str | None,
    node: Node | None,
    finals: str | None,
) -> tuple[StudyDefinition, str]:
    """The study of wider ranges, and its file."""
    from betanas.jobs.load import quiet_optuna
    from betanas.jobs.widen import begin_wider
    from betanas.study.loading import finals_override, load_definition

    if node is not None:
        raise InputError(
            "--widen is for one machine; once it has begun, give all nodes the file that it wrote"
        )
    with quiet_optuna():
        file = begin_wider(study, definition, storage)
    say(f"{file} has the wider ranges: from now on, --study {file}", err)
    return load_definition(file, finals_override(finals)), str(file)


def _status(definition: StudyDefinition, stored: StoredStudy) -> dict[str, Any]:
    from betanas.analysis.finals import finals_of
    from betanas.analysis.status import summarize
    from betanas.jobs.front import front_of

    records, target = stored.records(), definition.search.trials
    summary = summarize(definition.name, records, target, front_of(stored))
    finals = finals_of(stored)
    told = {"finals": finals.to_json()} if finals else {}
    return summary | told | {"range_advice": [a.to_json() for a in _advice(definition, stored)]}


def _advice(definition: StudyDefinition, stored: StoredStudy) -> list[RangeAdvice]:
    from betanas.jobs.widen import range_advice

    return range_advice(definition, stored.settings, stored.records())


def _print_advice(study: str, storage: str | None, advice: list[RangeAdvice], indent: int) -> None:
    """The ends that hold the search back, a line each, behind a label of so many columns."""
    for found in advice:
        say(f"{'range':<{indent}}{found}")
    if advice:
        same = f"--study {study}" + (f" --storage {storage}" if storage else "")
        say(f"{'':<{indent}}to go on with wider ranges: betanas optimize {same} --widen")


def _quality(quality: ModelQuality) -> str:
    """Whether to believe the model, in words."""
    if quality.spearman is None:
        return "the trials do not tell how good the model is"
    return (
        "on trials it had not seen the model ranks with correlation "
        f"{quality.spearman:.2f}, {quality.coverage:.0%} are in its 95 % interval"
    )


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


def _print_finals(stored: StoredStudy, console: Console, indent: int = 8) -> bool:
    """What a study's finals say, a line each, behind a label; false if it has none."""
    from betanas.analysis.finals import finals_of

    found = finals_of(stored)
    for line in found.lines() if found else ():
        say(f"{'finals':<{indent}}{line}", console)
    return found is not None and found.winner is not None


def _print_warnings(warnings: list[str]) -> None:
    for warning in warnings[:3]:
        say(f"warning: {warning}", err, "yellow")
    if len(warnings) > 3:
        say(f"warning: ... and {len(warnings) - 3} more", err, "yellow")
