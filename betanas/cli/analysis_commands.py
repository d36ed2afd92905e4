"""Commands that turn trials into understanding: clusters, scaling, report.

Each imports what it needs when it runs, so that ``--help`` answers at once.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from betanas.cli.app import app, example
from betanas.cli.begun import load_begun, trial_kernel
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
    say,
    short,
)
from betanas.errors import InputError

if TYPE_CHECKING:
    from betanas.analysis.tables import Table

TopOption = Annotated[int, typer.Option(help="How many of the best trials to cluster.")]
ClustersOption = Annotated[int, typer.Option(help="How many clusters to make of them.")]


@app.command(epilog=example("betanas cluster --study digits --top 30 --clusters 4"))
@ends_well
def cluster(
    study: StudyOption,
    top: TopOption = 30,
    clusters: ClustersOption = 4,
    storage: StorageOption = None,
    set_: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Cluster the best trials: which kinds of kernel do well."""
    from betanas.analysis.clusters import cluster_best
    from betanas.analysis.tables import cluster_table
    from betanas.trial import whole

    definition, stored = load_begun(study, storage, set_)
    records = stored.records()
    found = cluster_best(whole(definition, records), definition.searched, top, clusters)
    from betanas.jobs.recommend import recommended

    best = recommended(definition, stored.settings, records)
    if as_json:
        print_json({"clusters": found.to_json(), "recommended": best.to_json() if best else None})
        return
    _print_clusters(cluster_table(found, best))
    for c in found.clusters:
        say(f"cluster {c.label}: trials {', '.join(map(str, c.trials))}")


@app.command(
    epilog=example("betanas scale --family betanet2 --published --resolutions 64,96,...,512")
)
@ends_well
def scale(
    study: Annotated[str | None, typer.Option(help="Take the kernel from this study.")] = None,
    trial: Annotated[
        int | None, typer.Option(help="The study's trial of this number; else its best.")
    ] = None,
    family: Annotated[str | None, typer.Option(help="betanet2 or betanet3.")] = None,
    published: Annotated[
        bool, typer.Option("--published", help="The family's published kernel.")
    ] = False,
    resolutions: Annotated[
        str, typer.Option(help="Input sides in pixels: 64,128 or 64,96,...,1024.")
    ] = "64,96,...,1024",
    classes: Annotated[
        int | None, typer.Option(help="Number of classes; else the study's, or 100.")
    ] = None,
    batch_size: Annotated[
        int | None, typer.Option(help="Images of a training step; else the study's, or 100.")
    ] = None,
    storage: StorageOption = None,
    set_: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show what one kernel costs at many resolutions."""
    from dataclasses import asdict

    from betanas.analysis.scaling import parse_resolutions
    from betanas.analysis.scaling import scale as scaled
    from betanas.architecture.families import find_family

    sides = parse_resolutions(resolutions)
    if (family is None) == (study is None):
        raise InputError("scale takes either --family or --study")
    if family is not None:
        chosen = find_family(family)
        if not published:
            raise InputError("scale --family takes --published; other kernels come from --study")
        kernel = dict(chosen.published)
    else:
        if published:
            raise InputError("scale --study takes the study's kernel, not --published")
        definition, stored = load_begun(str(study), storage, set_)
        kernel = trial_kernel(stored, trial)
        chosen = definition.search_family
        classes = len(stored.settings.classes) if classes is None else classes
        batch_size = definition.recipe.batch_size if batch_size is None else batch_size
    classes = 100 if classes is None else classes
    batch_size = 100 if batch_size is None else batch_size
    rows = scaled(chosen, kernel, sides, classes, batch_size)
    if as_json:
        print_json({"rows": [asdict(row) for row in rows]})
        return
    from rich.table import Table as RichTable

    table = RichTable(box=None, pad_edge=False)
    for name in ("resolution", "params", "macs", f"activations ({batch_size} images)", "layers"):
        table.add_column(name, justify="right")
    for row in rows:
        memory = row.activation_bytes
        table.add_row(
            str(row.resolution),
            short(row.num_params),
            short(row.macs),
            "-" if memory is None else f"{memory / 2**20:,.0f} MiB",
            str(row.layers),
        )
    out.print(table)


@app.command(epilog=example("betanas report --study digits --output storage/report"))
@ends_well
def report(
    study: StudyOption,
    output: Annotated[Path, typer.Option(help="Folder for the report; made if missing.")],
    top: TopOption = 30,
    clusters: ClustersOption = 4,
    storage: StorageOption = None,
    set_: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Write everything a study has shown into one HTML file, its numbers and figures beside it."""
    from betanas.files import make_folder

    definition, stored = load_begun(study, storage, set_)
    make_folder(output)
    say("analysing ...", err, "dim")
    from betanas.jobs.report import analyse, write_report

    findings = analyse(definition, stored, top, clusters)
    files = write_report(findings, output)
    if as_json:
        print_json({"files": [str(file) for file in files], "notes": list(findings.notes)})
        return
    for note in findings.notes:
        say(f"note: {note}", err)
    say(f"wrote {files[0]} and {len(files) - 1} files of numbers and figures beside it")


def _print_clusters(table: Table) -> None:
    """The published form: a row a parameter, the recommended kernel beside the clusters' means."""
    from rich.table import Table as RichTable

    shown = RichTable(box=None, pad_edge=False)
    for i, name in enumerate(table.columns):
        shown.add_column(name, justify="right" if i else "left")
    for row in table.rows:
        cells = []
        for value in row[1:]:
            if value is None or isinstance(value, str):
                cells.append(value or "-")
            elif row[0] == "mean evaluation":
                cells.append(per_cent(value))
            else:
                cells.append(str(value) if row[0] == "trials" else f"{value:.4f}")
        shown.add_row(str(row[0]), *cells)
    out.print(shown)
