"""The report's page: one HTML document that needs no network and trusts no name in it."""

import base64
import hashlib
import json
from collections.abc import Callable, Mapping
from html import escape
from importlib.resources import files
from typing import Any

from matplotlib.figure import Figure

from betanas.analysis import sections
from betanas.analysis.clusters import complete_trials, highlighted
from betanas.analysis.evidence import history_of
from betanas.analysis.figures.architecture import draw_architecture
from betanas.analysis.figures.clusters import draw_cluster_means, draw_dendrogram
from betanas.analysis.figures.confirmed import draw_confirmed
from betanas.analysis.figures.costs import draw_pareto, draw_scaling
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
from betanas.analysis.figures.training import draw_training
from betanas.analysis.findings import Findings
from betanas.analysis.tables import Table

_KERNEL_DIGITS = 6


def draw_all(findings: Findings) -> dict[str, Figure]:
    """Every figure that a study's data allow, by the name of its files."""
    f = findings
    recommended = f.recommended.parameters if f.recommended else None
    figures: dict[str, Figure] = {}
    for network in f.networks:
        name = "architecture_" + network.title.split()[0]
        figures[name] = draw_architecture(network.architecture, network.kernel)
    draws: list[tuple[str, bool, Callable[[], Figure]]] = [
        ("history", bool(f.records), lambda: draw_history(f.records)),
        ("outcomes", bool(f.records), lambda: draw_outcomes(f.outcomes)),
        (
            "parallel_coordinates",
            bool(f.records),
            lambda: draw_parallel_coordinates(f.records, f.ranges),
        ),
        ("pareto", f.observed is not None, lambda: draw_pareto(f.records)),
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
            lambda: draw_partial_dependence(f.dependence, recommended),
        ),
    ]
    figures |= {name: draw() for name, wanted, draw in draws if wanted}
    if f.clustering is not None:
        figures["dendrogram"] = draw_dendrogram(f.clustering)
        figures["cluster_means"] = draw_cluster_means(f.clustering, f.ranges, recommended)
    if f.confirmed is not None:
        figures["confirmed"] = draw_confirmed(f.confirmed)
    if f.quality is not None:
        figures["model_quality"] = draw_model_quality(f.quality)
    return figures


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
    for name, figure in draw_all(findings).items():
        svg = to_svg(figure)
        pictures[f"{name}.svg"], pictures[f"{name}.png"] = svg, to_png(figure)
        if name != "parallel_coordinates":  # the page draws these itself
            inline[name] = inline_svg(svg, name.replace("_", "-"), name.replace("_", " "))
    body = sections.render_body(findings, tables, inline)
    style, script = _asset("page.css"), _asset("page.js")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    # No name in the database can load or run anything: only this one script, no network at all.
    policy = (
        "default-src 'none'; img-src data:; style-src 'unsafe-inline'; "
        f"script-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"
    )
    page = (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(findings.name)} – BetaNAS report</title>\n"
        f"<style>\n{style}</style>\n</head>\n<body>\n{body}\n"
        f'<script type="application/json" id="data">{_data(findings)}</script>\n'
        f"<script>{script}</script>\n</body>\n</html>\n"
    )
    return page, pictures


def _asset(name: str) -> str:
    return files("betanas.analysis").joinpath(name).read_text(encoding="utf-8")


def _data(findings: Findings) -> str:
    """The trials for the page's script, as JSON that cannot end its own element."""
    names = list(findings.ranges)

    def kernel(values: Mapping[str, float]) -> list[float | None]:
        return [round(values[n], _KERNEL_DIGITS) if n in values else None for n in names]

    trials: list[dict[str, Any]] = [
        {
            "number": r.number,
            "state": r.state,
            "phase": r.phase,
            "value": r.value,
            "reason": r.reason,
            "num_params": r.num_params,
            "macs": r.macs,
            "activation_bytes": r.activation_bytes,
            "train_seconds": r.train_seconds,
            "epochs": r.epochs,
            "kernel": kernel(r.parameters),
        }
        for r in findings.records
    ]
    ranges = [{"name": n, "low": low, "high": high} for n, (low, high) in findings.ranges.items()]
    text = json.dumps(
        {
            "parameters": ranges,
            "trials": trials,
            "highlight": highlighted(len(complete_trials(findings.records))),
        },
        separators=(",", ":"),
    )
    for character in "<>&":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text
