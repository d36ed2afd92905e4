"""What accuracy costs: Pareto fronts, and the chosen kernel at other resolutions."""

from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from betanas.analysis.clusters import complete_trials
from betanas.analysis.figures.style import (
    BLUE,
    FAINT,
    GREEN,
    MUTED,
    ORANGE,
    counts_axis,
    new_figure,
    per_cent_axis,
    styled,
    whole_numbers,
)
from betanas.analysis.pareto import LATENCY, cost_of, known_costs, pareto_front
from betanas.analysis.scaling import ScaledCost
from betanas.trial import TrialRecord

_TITLES = {
    "num_params": "parameters",
    "macs": "multiply-adds",
    "activation_bytes": "activation memory (bytes)",
}


def fit_log_axis(axes: Axes, which: str) -> None:
    """A log axis with a few labels, also where it spans less than a decade."""
    from matplotlib.ticker import LogLocator  # noqa: PLC0415 - beside its only use

    axis = axes.xaxis if which == "x" else axes.yaxis
    counts_axis(axes, which)
    low, high = axis.get_view_interval()
    subs: tuple[float, ...] = (1.0,) if high / max(low, 1e-300) > 100 else (1.0, 3.0)
    if high / max(low, 1e-300) < 10:
        subs = (1.0, 2.0, 5.0)
    axis.set_major_locator(LogLocator(10, subs=subs, numticks=9))


def _shown(record: TrialRecord, cost: str) -> float | None:
    """A cost in the unit of its axis: latencies in milliseconds."""
    value = cost_of(record, cost)
    return value * 1000 if value is not None and cost == LATENCY else value


def _title(records: Sequence[TrialRecord], cost: str) -> str:
    if cost != LATENCY:
        return _TITLES.get(cost, cost)
    batch = next(r.audit.get("latency_batch") for r in records if LATENCY in r.audit)
    return f"latency (ms, batch {batch})"


@styled
def draw_pareto(records: Sequence[TrialRecord]) -> Figure:
    """Accuracy against each cost; the front is what nothing cheaper beats."""
    costs = known_costs(records)
    figure = new_figure(8.4, 3.0)
    complete = complete_trials(records)
    shared: Axes | None = None
    for i, cost in enumerate(costs):
        axes = figure.add_subplot(1, len(costs), i + 1, sharey=shared)
        shared = shared or axes
        priced = [(c, r.value or 0.0) for r in complete if (c := _shown(r, cost)) is not None]
        axes.scatter(
            [c for c, _ in priced], [v for _, v in priced], s=9, color=MUTED, alpha=0.5,
            linewidths=0,
        )  # fmt: skip
        front = pareto_front(records, cost)
        axes.plot(
            [_shown(r, cost) or 0.0 for r in front], [r.value or 0.0 for r in front], "o-",
            color=ORANGE, markersize=4, drawstyle="steps-post",
        )  # fmt: skip
        if priced:
            axes.set_xscale("log")
            fit_log_axis(axes, "x")
        axes.set_xlabel(_title(records, cost))
        per_cent_axis(axes)
        if i:
            axes.tick_params(labelleft=False)
        else:
            axes.set_ylabel("validation accuracy (%)")
    return figure


@styled
def draw_scaling(rows: Sequence[ScaledCost], resolution: int) -> Figure:
    """Costs and depth of one kernel against the resolution; the study's own is marked.

    Args:
        rows: By rising resolution.
        resolution: The study's.
    """
    figure = new_figure(8.4, 2.7)
    known = [row for row in rows if row.layers]
    panels = (
        ("parameters", [row.num_params or 0 for row in known], BLUE),
        ("multiply-adds", [row.macs or 0 for row in known], ORANGE),
        ("activation bytes", [row.activation_bytes or 0 for row in known], GREEN),
        ("layers", [row.layers for row in known], MUTED),
    )
    for i, (title, numbers, colour) in enumerate(panels):
        axes = figure.add_subplot(1, 4, i + 1)
        axes.axvline(resolution, color=FAINT, linewidth=3)
        axes.plot([row.resolution for row in known], numbers, color=colour)
        if title != "layers" and numbers:
            axes.set_yscale("log")
            fit_log_axis(axes, "y")
        elif numbers:
            whole_numbers(axes, "y")
        axes.set_title(title, pad=4)
        axes.set_xlabel("resolution")
    return figure
