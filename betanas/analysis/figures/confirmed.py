"""How sure the order is: every repeated training, and the interval of each model's mean."""

from matplotlib.figure import Figure
from scipy.stats import t as student

from betanas.analysis.confirmation import Confirmed
from betanas.analysis.figures.style import (
    BLUE,
    MUTED,
    ORANGE,
    legend_above,
    new_axes,
    styled,
    value_axis,
)
from betanas.analysis.measure import Measure


@styled
def draw_confirmed(found: Confirmed, measure: Measure) -> Figure:
    """Each model's repetitions, their mean with its 95 % interval, what the search had said."""
    figure, axes = new_axes(7.2, 1.2 + 0.42 * len(found.models))
    reach = float(student.ppf(0.975, found.degrees)) if found.degrees else 0.0
    for row, m in enumerate(found.models):
        colour = ORANGE if m.is_reference else BLUE
        axes.plot(m.values, [row] * len(m.values), "o", color=colour, alpha=0.5, markersize=4)
        error = reach * (found.noise_std or 0.0) * len(m.values) ** -0.5
        axes.errorbar(m.mean, row, xerr=error, fmt="|", color=colour, markersize=13, capsize=3)
        if m.searched is not None:
            axes.plot(m.searched, row, "D", color=MUTED, markersize=5, markerfacecolor="none")
    axes.plot([], [], "o", color=BLUE, alpha=0.5, markersize=4, label="trained again")
    axes.errorbar([], [], xerr=[], fmt="|", color=BLUE, label="mean, 95 % interval")
    axes.plot([], [], "D", color=MUTED, markerfacecolor="none", markersize=5, label="the search")
    axes.set_yticks(range(len(found.models)), [m.title for m in found.models])
    axes.invert_yaxis()
    axes.grid(axis="y", visible=False)
    axes.set_xlabel(measure.axis())
    value_axis(axes, measure, "x")
    legend_above(axes, 3)
    return figure
