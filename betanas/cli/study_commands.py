"""Commands that read a study's trials.

Each imports what it needs when it runs, so that ``--help`` answers at once.
"""

from __future__ import annotations

from dataclasses import asdict
from shlex import quote
from typing import TYPE_CHECKING, Annotated, Any

import typer

from betanas.cli.app import app, example
from betanas.cli.begun import load_begun
from betanas.cli.options import (
    JsonOption,
    SetOption,
    StorageOption,
    StudyOption,
    ends_well,
    err,
    out,
    print_json,
    say,
)
from betanas.errors import InputError
from betanas.jobs.load import storage_url, study_options

if TYPE_CHECKING:
    from rich.console import Console

    from betanas.analysis.ranges import RangeAdvice
    from betanas.database.stored import StoredStudy
    from betanas.search.quality import ModelQuality
    from betanas.study.definition import StudyDefinition


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
    summary = status_json(definition, stored)
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
    if "warm_start" in summary:
        from betanas.jobs.warm_start import BegunFrom

        say(f"begun     from {BegunFrom(**summary['warm_start'])}")
    if summary["best"]:
        best = stored.record(summary["best"]["number"])
        say(f"best      {told_result(best)} (trial {best.number})")
    if summary.get("front"):
        numbers = ", ".join(str(point["number"]) for point in summary["front"])
        say(f"front     {', '.join(summary['objectives'])}: trials {numbers}")
        say(f"volume    {summary['hypervolume']:.4g} dominated by the front")
    if summary["replicates"]:
        say(f"repeated  {summary['replicates']} trainings with other seeds")
    print_finals(stored, out, indent=10)
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
    from betanas.analysis.measure import Measure
    from betanas.analysis.status import observed_best, result_json, told_result
    from betanas.cli.tables import print_front, print_kernels
    from betanas.jobs.front import front_json, front_of
    from betanas.jobs.recommend import recommended
    from betanas.jobs.warm_start import begun_from
    from betanas.trial import whole

    records = stored.records()
    observed = observed_best(whole(definition, records))
    believed = recommended(definition, stored.settings, records)
    weight = believed.surrogate.source_weight if believed else 0.0
    source = begun_from(definition, stored.settings, records, weight)
    front, finals = front_of(stored), finals_of(stored)
    if as_json:
        print_json(
            {
                "observed": None
                if observed is None
                else result_json(observed) | {"parameters": dict(observed.parameters)},
                "recommended": believed.to_json() if believed else None,
                "range_advice": [a.to_json() for a in _advice(definition, stored)],
                **({"warm_start": asdict(source)} if source else {}),
                **front_json(stored, front),
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
        measure = Measure.of(definition.objective, records)
        what = "weighed value predicted" if measure.weighs else "predicted"
        say(
            f"recommended  {measure.told(believed.predicted_value)} {what}, standard deviation "
            f"{measure.told(believed.predicted_std)}; {_quality(believed.quality)}"
        )
    if source is not None:
        say(f"begun        from {source}")
    print_finals(stored, out, indent=13)
    _print_advice(study, storage, _advice(definition, stored), indent=13)
    if front is not None:
        print_front(out, front)
        last = len(front.trials) - 1
        say(f"next         betanas train --model {quote(study)}:front:0 (to {last})", err)


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


def status_json(definition: StudyDefinition, stored: StoredStudy) -> dict[str, Any]:
    """What ``status --json`` says."""
    from betanas.analysis.finals import finals_of
    from betanas.analysis.status import summarize
    from betanas.jobs.front import front_json, front_of

    records = stored.records()
    summary = summarize(definition.name, records, definition.search.trials)
    summary |= front_json(stored, front_of(stored))
    finals = finals_of(stored)
    told = {"finals": finals.to_json()} if finals else {}
    source = None
    if stored.settings.warm_start is not None:  # its weight takes a model, which takes seconds
        from betanas.jobs.warm_start import begun_from

        source = begun_from(definition, stored.settings, records)
    told |= {"warm_start": asdict(source)} if source else {}
    return summary | told | {"range_advice": [a.to_json() for a in _advice(definition, stored)]}


def _advice(definition: StudyDefinition, stored: StoredStudy) -> list[RangeAdvice]:
    from betanas.jobs.widen import range_advice

    return range_advice(definition, stored.settings, stored.records())


def _print_advice(study: str, storage: str | None, advice: list[RangeAdvice], indent: int) -> None:
    """The ends that hold the search back, a line each, behind a label of so many columns."""
    for found in advice:
        say(f"{'range':<{indent}}{found}")
    if advice:
        same = study_options(study, storage)
        say(f"{'':<{indent}}to go on with wider ranges: betanas optimize {same} --widen")


def _quality(quality: ModelQuality) -> str:
    """Whether to believe the model, in words."""
    if quality.spearman is None:
        return "the trials do not tell how good the model is"
    return (
        "on trials it had not seen the model ranks with correlation "
        f"{quality.spearman:.2f}, {quality.coverage:.0%} are in its 95 % interval"
    )


def print_finals(stored: StoredStudy, console: Console, indent: int = 8) -> bool:
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
