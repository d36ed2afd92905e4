"""Commands that turn trials into understanding: clusters, report.

Each imports what it needs when it runs, so that ``--help`` answers at once.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

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

if TYPE_CHECKING:
    from betanas.analysis.measure import Measure
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
    from betanas.analysis.measure import Measure
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
    _print_clusters(cluster_table(found, best), Measure.of(definition.objective, records))
    for c in found.clusters:
        say(f"cluster {c.label}: trials {', '.join(map(str, c.trials))}")


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
    make_folder(output, "figures")
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


def _print_clusters(table: Table, measure: Measure) -> None:
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
                cells.append(measure.told(value))
            else:
                cells.append(str(value) if row[0] == "trials" else f"{value:.4f}")
        shown.add_row(str(row[0]), *cells)
    out.print(shown)
