"""The report's page: one HTML document that needs no network and trusts no name in it."""

import base64
import hashlib
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from matplotlib.figure import Figure

from betanas.analysis.axes import ends, options
from betanas.analysis.cells import (
    decimal,
    duration,
    kernel_number,
    per_cent,
    plain_number,
    share,
    short_count,
)
from betanas.analysis.clusters import complete_trials, highlighted
from betanas.analysis.evidence import history_of, supernet_history
from betanas.analysis.figures.architecture import draw_architecture
from betanas.analysis.figures.clusters import (
    cluster_colour,
    draw_cluster_means,
    draw_dendrogram,
)
from betanas.analysis.figures.confirmed import draw_confirmed
from betanas.analysis.figures.costs import draw_pareto, draw_scaling
from betanas.analysis.figures.front import draw_front, draw_hypervolume
from betanas.analysis.figures.model import (
    draw_importance,
    draw_model_quality,
    draw_partial_dependence,
)
from betanas.analysis.figures.search import (
    draw_history,
    draw_outcomes,
    draw_parallel_coordinates,
)
from betanas.analysis.figures.style import inline_svg, to_png, to_svg
from betanas.analysis.figures.supernet import draw_gates, draw_supernets
from betanas.analysis.figures.training import draw_training
from betanas.analysis.findings import Findings
from betanas.analysis.measure import ACCURACIES, Measure
from betanas.analysis.tables import Table, chances_table, trials_table
from betanas.architecture.families import find_family
from betanas.parameters import Integer, Real

_TEMPLATES = Path(__file__).parent / "templates"
_KERNEL_DIGITS = 6


def draw_all(findings: Findings) -> dict[str, Figure]:
    """Every figure that a study's data allow, by the name of its files."""
    # Ours, not Optuna's: theirs leave out what was rejected, need megabytes of plotly.js or
    # are experimental (Matplotlib), and their colours do not follow the page into the dark.
    f = findings
    recommended = f.recommended.parameters if f.recommended else None
    figures: dict[str, Figure] = {}
    for network in f.networks:
        name = "architecture_" + network.title.split()[0]
        figures[name] = draw_architecture(network.architecture, network.kernel)
    draws: list[tuple[str, bool, Callable[[], Figure]]] = [
        ("history", bool(f.records), lambda: draw_history(f.records, f.measure)),
        ("outcomes", bool(f.records), lambda: draw_outcomes(f.outcomes)),
        (
            "parallel_coordinates",
            bool(f.records),
            lambda: draw_parallel_coordinates(f.records, f.parameters),
        ),
        ("pareto", f.observed is not None, lambda: draw_pareto(f.records, f.measure)),
        (
            "scaling",
            bool(f.scaling),
            lambda: draw_scaling(f.scaling, int(f.facts["resolution"])),
        ),
        (
            "training",
            any(history_of(r) for r in f.records if r.state == "complete"),
            lambda: draw_training(f.records),
        ),
        ("importance", bool(f.importance), lambda: draw_importance(f.importance)),
        (
            "partial_dependence",
            bool(f.dependence),
            lambda: draw_partial_dependence(f.dependence, recommended, f.measure),
        ),
    ]
    figures |= {name: draw() for name, wanted, draw in draws if wanted}
    figures |= _draw_supernets(f)
    if f.clustering is not None:
        figures["dendrogram"] = draw_dendrogram(f.clustering)
        figures["cluster_means"] = draw_cluster_means(
            f.clustering, f.parameters, recommended, f.measure
        )
    if f.front is not None:
        figures["front"] = draw_front(f.front, complete_trials(f.records), f.measure)
        figures["hypervolume"] = draw_hypervolume(f.front)
    if f.confirmed is not None:
        figures["confirmed"] = draw_confirmed(f.confirmed, f.measure)
    if f.quality is not None:
        figures["model_quality"] = draw_model_quality(f.quality, f.measure)
    return figures


def _draw_supernets(findings: Findings) -> dict[str, Figure]:
    """Those of a one-shot study: all its supernets, and the gates of the best trial's."""
    trained = [r for r in findings.records if supernet_history(r)]
    if not trained:
        return {}
    best = max(trained, key=lambda r: r is findings.observed)
    return {
        "supernets": draw_supernets(trained, best.number),
        "supernet_gates": draw_gates(best),
    }


def render_page(
    findings: Findings, tables: Mapping[str, Table]
) -> tuple[str, dict[str, str | bytes]]:
    """Renders the report.

    Args:
        findings: What a study has shown.
        tables: Its tables, as ``all_tables`` makes them.

    Returns:
        The HTML document, and the figures as files: ``name.svg`` and ``name.png``.
    """
    pictures: dict[str, str | bytes] = {}
    inline: dict[str, str] = {}
    clusters = len(findings.clustering.clusters) if findings.clustering else 0
    for name, figure in draw_all(findings).items():
        svg = to_svg(figure)
        pictures[f"{name}.svg"], pictures[f"{name}.png"] = svg, to_png(figure)
        if name != "parallel_coordinates":  # the page draws these itself
            inline[name] = inline_svg(svg, name.replace("_", "-"), name.replace("_", " "))
    style, script = (_TEMPLATES.joinpath(n).read_text("utf-8") for n in ("page.css", "page.js"))
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    page = _environment(findings.measure).get_template("report.html")
    return page.render(
        heading=findings.name,
        what="report",
        findings=findings,
        measure=findings.measure,
        tables=tables,
        figures=inline,
        data=_data(findings),
        meanings=_meanings(findings),
        chances=chances_table(findings.confirmed) if findings.confirmed else None,
        cluster_colours={f"cluster {i}": cluster_colour(i) for i in range(1, 1 + clusters)},
        style=style,
        script=script,
        # No name in the database can load or run anything: only this one script, no network at all.
        policy="default-src 'none'; img-src data:; style-src 'unsafe-inline'; "
        f"script-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'",
    ), pictures


def render_scaling(title: str, svg: str, table: Table) -> str:
    """The page of one kernel scaled up.

    Args:
        title: What is scaled.
        svg: Its curves, as ``to_svg`` wrote them.
        table: Their numbers.
    """
    return (
        _environment()
        .get_template("scaling.html")
        .render(
            heading=title,
            what="scaling",
            figures={"scaling": inline_svg(svg, "scaling", "scaling")},
            table_of_costs=table,
            style=(_TEMPLATES / "page.css").read_text("utf-8"),
            policy="default-src 'none'; img-src data:; style-src 'unsafe-inline'; "
            "base-uri 'none'; form-action 'none'",
        )
    )


def _environment(measure: Measure = ACCURACIES) -> Environment:
    """The templates; whatever comes from a study is escaped where it is put in.

    Args:
        measure: Of the study's values, where the page has some.
    """
    made = Environment(
        loader=FileSystemLoader(str(_TEMPLATES)),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    made.filters |= {f.__name__: f for f in (per_cent, decimal, duration, short_count)}
    made.globals |= {f.__name__: partial(f, measure=measure) for f in (plain_number, kernel_number)}
    made.globals["share"] = share
    made.policies["json.dumps_kwargs"] = {"separators": (",", ":")}
    return made


def _meanings(findings: Findings) -> dict[str, str]:
    """What the rows of the table of kernels mean."""
    meanings = {p.name: p.meaning for p in find_family(str(findings.facts["family"])).parameters}
    return meanings | {
        findings.measure.name: "measured; of the recommended best, predicted",
        "num_params": "trainable weights",
        "macs": "multiply-adds of one image",
        "activation_bytes": "kept activations of a training step",
    }


def _data(findings: Findings) -> dict[str, Any]:
    """The trials for the page's script."""
    table, measure = trials_table(findings.records, ()), findings.measure
    kernels = (
        [
            round(v, _KERNEL_DIGITS) if isinstance(v, int | float) else v
            for v in (r.parameters.get(n) for n in findings.ranges)
        ]
        for r in findings.records
    )
    return {
        "parameters": [
            {
                "name": p.name,
                "low": ends(p)[0],
                "high": ends(p)[1],
                "log": isinstance(p, Real) and p.log,
                "whole": isinstance(p, Integer),
                "options": options(p),
            }
            for p in findings.parameters
        ],
        "trials": [
            {
                **{c: v for c, v in zip(table.columns, row, strict=True) if c != "fingerprint"},
                "kernel": kernel,
            }
            for row, kernel in zip(table.rows, kernels, strict=True)
        ],
        "columns": table.columns,
        "value": _scale(measure),
        "weighs": _scale(measure.plain),
        "highlight": highlighted(len(complete_trials(findings.records))),
    }


def _scale(measure: Measure) -> dict[str, Any]:
    """How values read, for the page's script."""
    return {key: getattr(measure, key) for key in ("name", "scale", "digits")}
