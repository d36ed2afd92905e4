"""Several objectives: the front against each other objective, and its hypervolume over time."""

from collections.abc import Sequence

from matplotlib.figure import Figure

from betanas.analysis.figures.costs import fit_log_axis
from betanas.analysis.figures.style import (
    BLUE,
    MUTED,
    ORANGE,
    new_axes,
    new_figure,
    styled,
    value_axis,
    whole_numbers,
)
from betanas.analysis.front import TITLES, Front
from betanas.analysis.measure import Measure
from betanas.trial import TrialRecord


@styled
def draw_front(front: Front, complete: Sequence[TrialRecord], measure: Measure) -> Figure:
    """Accuracy against each other objective; of more than two, the front is no line there.

    Args:
        front: The study's.
        complete: Its complete trials.
        measure: What the first objective's values are.
    """
    costs = front.objectives[1:]
    figure = new_figure(8.4 if len(costs) > 1 else 6.0, 3.0)
    for i, cost in enumerate(costs):
        axes = figure.add_subplot(1, len(costs), i + 1)
        axes.scatter(
            [r.values[cost] for r in complete], [r.value or 0.0 for r in complete], s=9,
            color=MUTED, alpha=0.5, linewidths=0,
        )  # fmt: skip
        axes.plot(
            [r.values[cost] for r in front.trials], [r.value or 0.0 for r in front.trials],
            "o" if len(costs) > 1 else "o-", color=ORANGE, markersize=4, drawstyle="steps-pre",
        )  # fmt: skip
        axes.set_xscale("log")
        fit_log_axis(axes, "x")
        axes.set_xlabel(TITLES[cost])
        value_axis(axes, measure)
        if i == 0:
            axes.set_ylabel(measure.axis())
    return figure


@styled
def draw_hypervolume(front: Front) -> Figure:
    """How the volume that the front dominates has grown, trial by trial."""
    figure, axes = new_axes()
    numbers, volumes = zip(*front.history, strict=True)
    axes.step(numbers, volumes, where="post", color=BLUE)
    axes.set_xlabel("trial")
    whole_numbers(axes)
    axes.set_ylabel("hypervolume")
    axes.set_ylim(bottom=0)
    return figure
