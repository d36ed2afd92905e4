"""The sections of the report's page, as HTML; whatever comes from a study is escaped."""

from collections.abc import Mapping
from html import escape

from betanas.analysis.cells import (
    duration,
    kernel_cell,
    per_cent,
    plain_cell,
    share_cell,
)
from betanas.analysis.clusters import complete_trials, highlighted
from betanas.analysis.confirmed_section import confirmed_section
from betanas.analysis.figures.clusters import cluster_colour
from betanas.analysis.figures.style import short_count
from betanas.analysis.findings import Findings
from betanas.analysis.pieces import fact, figure, table
from betanas.analysis.tables import Table
from betanas.architecture.families import find_family

_SECTIONS = (
    ("best", "The best"),
    ("search", "The search"),
    ("trials", "All trials"),
    ("kinds", "Kinds of kernel"),
    ("matters", "What matters"),
    ("costs", "What it costs"),
    ("trainings", "The trainings"),
    ("confirmed", "Trained again"),
    ("belief", "How far to believe it"),
)


def render_body(findings: Findings, tables: Mapping[str, Table], figures: Mapping[str, str]) -> str:
    """The page between ``<body>`` and its scripts.

    Args:
        findings: What a study has shown.
        tables: Its tables.
        figures: SVG elements by figure name, ready for the page.
    """
    parts = {
        "best": _best(findings, tables, figures),
        "search": _search(findings, tables, figures),
        "trials": _trials(findings),
        "kinds": _kinds(findings, tables, figures),
        "matters": _matters(findings, tables, figures),
        "costs": _costs(tables, figures),
        "trainings": _trainings(figures),
        "confirmed": confirmed_section(findings.confirmed, tables, figures),
        "belief": _belief(findings, tables, figures),
    }
    shown = [(key, title) for key, title in _SECTIONS if parts[key]]
    links = "".join(f'<a href="#{key}">{title}</a>' for key, title in shown)
    sections = "\n".join(
        f'<section id="{key}">\n<h2>{title}</h2>\n{parts[key]}\n</section>' for key, title in shown
    )
    return (
        f"<header><div>\n<h1>{escape(findings.name)}</h1>\n{_lead(findings)}\n"
        f"{_tiles(findings)}\n<nav>{links}</nav>\n</div></header>\n"
        f"<main>\n{sections}\n{_facts(findings)}\n</main>\n{_footer(tables)}"
    )


def _lead(findings: Findings) -> str:
    f = findings.facts
    return (
        f'<p class="lead">{escape(str(f["family"]))} at {f["resolution"]} pixels on '
        f"{escape(str(f['data set']))}, {f['classes']} classes, "
        f"{escape(str(f['budget of a trial']))} of training a trial</p>"
    )


def _tiles(findings: Findings) -> str:
    states = findings.summary["trials"]
    tiles = []
    if findings.observed is not None:
        tiles.append(
            (
                "best measured",
                per_cent(findings.observed.value),
                f"trial {findings.observed.number}",
            )
        )
    if findings.recommended is not None:
        r = findings.recommended
        tiles.append(
            (
                "recommended",
                per_cent(r.predicted_value),
                f"predicted, ± {per_cent(r.predicted_std)}",
            )
        )
    if findings.networks:
        n = findings.networks[0]
        tiles.append(
            ("its size", short_count(n.complexity.num_params),
             f"parameters, {short_count(n.complexity.macs)} multiply-adds")
        )  # fmt: skip
    tiles.append(
        (
            "trials", str(findings.summary["feasible"]),
            (
                f"complete, {findings.summary['target']} wanted; {states['pruned']} rejected, "
                f"{states['fail']} failed"
            ),
        )
    )  # fmt: skip
    seconds = float(findings.facts["training time in all (s)"])
    tiles.append(("training time", duration(seconds), "of all trials"))
    return (
        '<dl class="tiles">'
        + "".join(
            f"<div><dt>{escape(name)}</dt><dd>{escape(value)}<small>{escape(more)}</small></dd></div>"
            for name, value, more in tiles
        )
        + "</dl>"
    )


def _best(findings: Findings, tables: Mapping[str, Table], figures: Mapping[str, str]) -> str:
    if not findings.networks:
        return "<p>No trial is complete yet.</p>"
    intro = (
        "<p>The <em>observed best</em> is the trial with the highest measured accuracy. The "
        "<em>recommended best</em> is the feasible kernel that the model holds for the best: it "
        "has seen all trials, and one lucky training does not deceive it.</p>"
    )
    parts = [intro]
    meanings = {p.name: p.meaning for p in find_family(str(findings.facts["family"])).parameters}
    meanings |= {
        "accuracy": "measured; of the recommended best, predicted",
        "num_params": "trainable weights",
        "macs": "multiply-adds of one image",
        "activation_bytes": "kept activations of a training step",
    }
    parts.append(
        table(tables["kernels"], kernel_cell, rule_at=len(findings.ranges), hints=meanings)
    )
    for network in findings.networks:
        key = network.title.split()[0]
        parts.append(f"<h3>{escape(network.title.capitalize())}</h3>")
        parts.append(figure(
            figures[f"architecture_{key}"],
            "Each bar is a layer: its output resolution upwards, its channels downwards. The small "
            "plots are the kernel's Beta curves, which place the contractions and shape the width.",
        ))  # fmt: skip
        cost = network.complexity
        parts.append(
            f'<p class="hint">{cost.num_params:,} parameters, {short_count(cost.macs)} '
            f"multiply-adds, {cost.activation_bytes / 2**20:,.0f} MiB of activations for a batch; "
            f"{network.architecture.latent_channels} latent channels; fingerprint "
            f"{network.architecture.fingerprint}</p><details><summary>Layer table</summary>"
            f"{table(tables[f'layers_{key}'], plain_cell)}</details>"
        )
    return "\n".join(parts)


def _search(findings: Findings, tables: Mapping[str, Table], figures: Mapping[str, str]) -> str:
    if not findings.records:
        return ""
    return (
        figure(figures["history"], "Every trial in order. Rejected ones cost nothing: marks below.")
        + "<h3>What became of the trials</h3>"
        + figure(figures["outcomes"], "By the part of the search that proposed them.")
        + "<details><summary>Numbers</summary>"
        + table(tables["rejections"], plain_cell)
        + "</details>"
    )


def _trials(findings: Findings) -> str:
    if not findings.records:
        return ""
    first, second = highlighted(len(complete_trials(findings.records)))
    colours = (
        ("blue", f"best {first}"),
        ("orange", f"best {first + 1} to {second}"),
        ("muted", "others"),
        ("red", "rejected or failed"),
    )
    names = "".join(
        f'<span><span class="swatch" style="background:var(--{c})"></span>{name}</span>'
        for c, name in colours
    )
    legend = f'<div class="legend">{names}</div>'
    return f"""<p>Drag along an axis to select trials, click it to let go; several axes narrow
together. The table follows.</p>
{legend}
<div class="scroll"><svg id="coordinates" role="group" aria-label="parallel coordinates"></svg>
</div>
<div class="controls"><input type="search" id="filter" aria-label="filter trials"
placeholder="filter: gp  accuracy&gt;70  params&lt;5M">
<label><input type="checkbox" id="show-rejected" checked> rejected ones too</label>
<button type="button" id="clear">clear</button>
<span id="selected" class="hint" aria-live="polite"></span></div>
<noscript><p class="hint">Without scripts: the same as a picture in
figures/parallel_coordinates.svg, all trials in trials.csv.</p></noscript>
<div id="trials-box" tabindex="0"><table id="trials-table"><thead><tr></tr></thead><tbody></tbody>
</table></div><p class="hint">On paper: the first 60 rows. All of them are in trials.csv.</p>"""


def _kinds(findings: Findings, tables: Mapping[str, Table], figures: Mapping[str, str]) -> str:
    clustering = findings.clustering
    if clustering is None:
        return ""
    colours = {f"cluster {c.label}": cluster_colour(c.label) for c in clustering.clusters}
    return (
        f"<p>The best {len(clustering.numbers)} trials, clustered by Ward's criterion on "
        "standardised parameters. Clusters are numbered by mean accuracy.</p>"
        + figure(figures["dendrogram"], "Trials that merge low down have similar kernels.")
        + figure(figures["cluster_means"], "Mean kernel of each cluster, as shares of the ranges.")
        + table(
            tables["clusters"], kernel_cell, rule_at=len(findings.ranges), colours=colours
        )
    )  # fmt: skip


def _matters(findings: Findings, tables: Mapping[str, Table], figures: Mapping[str, str]) -> str:
    if not findings.importance:
        return ""
    intro = (
        "<p>Four ways to ask. <em>Length scales</em>: how quickly the model's accuracy changes "
        "along a parameter, its effect through the network's size apart. <em>Main effects</em>: "
        "how much it changes in all. <em>fANOVA</em> and <em>PED-ANOVA</em> are Optuna's, from the "
        "trials alone; PED-ANOVA asks what tells the best tenth from the rest.</p>"
    )
    parts = [
        intro,
        figure(figures["importance"], "Shares of each method sum to 100 %."),
        "<details><summary>Numbers</summary>",
        table(tables["importance"], share_cell),
        "</details>",
    ]
    if "partial_dependence" in figures:
        parts += [
            "<h3>Accuracy along each parameter</h3>",
            figure(
                figures["partial_dependence"],
                "The model's mean over the trials' kernels with one parameter changed; the band is "
                "one standard deviation of a single kernel's accuracy. Dashed: recommended.",
            ),
        ]
    return "\n".join(parts)


def _costs(tables: Mapping[str, Table], figures: Mapping[str, str]) -> str:
    if "pareto" not in figures:
        return ""
    return (
        figure(figures["pareto"], "The stairs join the trials that nothing cheaper beats.")
        + "<details><summary>The fronts</summary>"
        + table(tables["pareto"], plain_cell)
        + "</details><h3>The observed best at other resolutions</h3>"
        + figure(figures["scaling"], "The same kernel decoded again; grey: the study's resolution.")
        + "<details><summary>Numbers</summary>"
        + table(tables["scaling"], plain_cell)
        + "</details>"
    )


def _trainings(figures: Mapping[str, str]) -> str:
    if "training" not in figures:
        return ""
    return figure(figures["training"], "The best five before a selection of the others.")


def _belief(findings: Findings, tables: Mapping[str, Table], figures: Mapping[str, str]) -> str:
    parts = []
    quality, replicates = findings.quality, findings.replicates
    if quality is not None:
        parts.append(
            '<div class="pair"><div><h3>The model, tested</h3>'
            "<p>What it says of each trial when that trial is taken out of its data:</p>"
            f'<dl class="facts">{fact("variance explained (R²)", f"{quality.r2:.3f}")}'
            f"{fact('rank correlation', f'{quality.spearman:.3f}')}"
            f"{fact('root mean squared error', per_cent(quality.rmse))}"
            f"{fact('inside the 95 % interval', per_cent(quality.coverage))}"
            f"{fact('noise of one training', per_cent(quality.noise_std))}</dl></div>"
            + figure(figures["model_quality"], "Bars: 95 % intervals.", "narrow")
            + "</div>"
        )
    parts.append("<h3>Replicates</h3>")
    if replicates.noise_std is None:
        parts.append("<p>No architecture was trained twice.</p>")
    else:
        parts.append(
            f"<p>{len(replicates.groups)} architectures were trained more than once: different "
            "kernels can decode to the same network. Their values differ by "
            f"{per_cent(replicates.noise_std)} (pooled standard deviation, {replicates.degrees} "
            "degrees of freedom); smaller differences between trials mean nothing.</p>"
            "<details><summary>Numbers</summary>"
            f"{table(tables['replicates'], plain_cell)}</details>"
        )
    warnings = list(findings.summary["warnings"])
    if warnings:
        shown = "".join(f"<li>{escape(w)}</li>" for w in warnings[:10])
        more = f"<li>and {len(warnings) - 10} more</li>" if len(warnings) > 10 else ""
        parts.append(f'<h3>Warnings</h3><ul class="notes">{shown}{more}</ul>')
    if findings.notes:
        notes = "".join(f"<li>{escape(note)}</li>" for note in findings.notes)
        parts.append(f'<h3>What is missing here</h3><ul class="notes">{notes}</ul>')
    return "\n".join(parts)


def _facts(findings: Findings) -> str:
    rows = "".join(
        fact(name, f"{value:,}" if isinstance(value, int | float) else value)
        for name, value in findings.facts.items()
    )
    classes = ", ".join(findings.class_names[:200])
    return (
        f'<section id="study"><h2>The study</h2><dl class="facts">{rows}</dl>'
        f"<details><summary>Classes</summary><p>{escape(classes)}</p></details></section>"
    )


def _footer(tables: Mapping[str, Table]) -> str:
    names = ", ".join(["report.json", *(f"{name}.csv" for name in tables)])
    return (
        f"<footer><p>Made by <code>betanas report</code>. Every number is also in {escape(names)}; "
        "every figure in figures/ as SVG and PNG.</p></footer>"
    )
