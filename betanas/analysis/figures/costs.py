"""What accuracy costs: Pareto fronts, and the chosen kernel at other resolutions."""

from collections.abc import Mapping, Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from betanas.analysis.clusters import complete_trials
from betanas.analysis.figures.style import (
    BLUE,
    FAINT,
    GREEN,
    MUTED,
    ORANGE,
    PURPLE,
    counts_axis,
    new_figure,
    styled,
    value_axis,
    whole_numbers,
)
from betanas.analysis.measure import Measure
from betanas.analysis.pareto import LATENCY, cost_of, known_costs, pareto_front
from betanas.analysis.scaling import ScaledCost
from betanas.trial import TrialRecord

_TITLES = {
    "num_params": "parameters",
    "macs": "multiply-adds",
    "activation_bytes": "activation memory (bytes)",
}
_PANELS = (
    ("num_params", "parameters", BLUE),
    ("macs", "multiply-adds", ORANGE),
    ("activation_bytes", "activation bytes", GREEN),
    ("layers", "layers", MUTED),
    ("latency_ms", "latency (ms)", PURPLE),
)
_RULE_COLOURS = (BLUE, GREEN, ORANGE)


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
def draw_pareto(records: Sequence[TrialRecord], measure: Measure) -> Figure:
    """The value against each cost; the front is what nothing cheaper beats."""
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
        value_axis(axes, measure)
        if i:
            axes.tick_params(labelleft=False)
        else:
            axes.set_ylabel(measure.axis())
    return figure


@styled
def draw_scaling(rows: Sequence[ScaledCost], resolution: int) -> Figure:
    """Costs and depth of one kernel against the resolution; the study's own is marked.

    Args:
        rows: By rising resolution.
        resolution: The study's.
    """
    return _curves({"": rows}, resolution)


@styled
def draw_curves(curves: Mapping[str, Sequence[ScaledCost]], resolution: int) -> Figure:
    """Costs and depth by several rules of scaling against the resolution.

    Args:
        curves: ``rule -> rows`` by rising resolution.
        resolution: The side that the kernel was found at.
    """
    return _curves(curves, resolution)


def _curves(curves: Mapping[str, Sequence[ScaledCost]], resolution: int) -> Figure:
    """A panel a cost, a line a curve; a single one has each panel's own colour."""
    panels = [p for p in _PANELS if any(getattr(r, p[0]) for rows in curves.values() for r in rows)]
    figure = new_figure(8.4, 2.7)
    for i, (name, title, own) in enumerate(panels):
        axes = figure.add_subplot(1, len(panels), i + 1)
        axes.axvline(resolution, color=FAINT, linewidth=3)
        for (rule, rows), colour in zip(curves.items(), _RULE_COLOURS, strict=False):
            known = [row for row in rows if getattr(row, name)]
            sides, costs = [r.resolution for r in known], [getattr(r, name) for r in known]
            axes.plot(sides, costs, color=colour if len(curves) > 1 else own, label=rule or None)
        if name == "layers":
            whole_numbers(axes, "y")
        else:
            axes.set_yscale("log")
            fit_log_axis(axes, "y")
        axes.set_title(title, pad=4)
        axes.set_xlabel("resolution")
    if len(curves) > 1 and panels:
        figure.axes[0].legend(loc="upper left")
    return figure
