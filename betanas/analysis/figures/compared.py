"""Models that were trained alike: accuracy over time, and against what each of them costs."""

from collections.abc import Sequence
from typing import Any

from matplotlib.figure import Figure

from betanas.analysis.figures.costs import fit_log_axis
from betanas.analysis.figures.style import (
    CLUSTER_COLOURS,
    legend_above,
    new_axes,
    new_figure,
    per_cent_axis,
    styled,
)

Rows = Sequence[dict[str, Any]]

COSTS = {
    "num_params": "parameters",
    "macs": "multiply-adds",
    "activation_bytes": "activation memory (bytes)",
    "latency_ms_1": "latency (ms, 1 image)",
    "latency_ms_64": "latency (ms, 64 images)",
    "train_seconds": "training (s)",
}


def _colour(place: int) -> str:
    return CLUSTER_COLOURS[place % len(CLUSTER_COLOURS)]


@styled
def draw_costs(rows: Rows) -> Figure:
    """Top-1 of each model against each cost, with the standard deviation over the seeds."""
    figure = new_figure(8.4, 5.4)
    for i, (cost, title) in enumerate(COSTS.items()):
        axes = figure.add_subplot(2, 3, i + 1)
        for place, row in enumerate(rows):
            spread = row["top1_std"] or 0.0
            axes.errorbar(
                [row[cost]], [row["top1"]], [spread], fmt="o", color=_colour(place), markersize=5,
                label=row["model"],
            )  # fmt: skip
        axes.set_xscale("log")
        fit_log_axis(axes, "x")
        axes.set_xlabel(title)
        per_cent_axis(axes)
        if i % 3 == 0:
            axes.set_ylabel("top-1 (%)")
    handles, names = figure.axes[0].get_legend_handles_labels()
    figure.legend(handles, names, loc="outside upper center", ncols=min(4, len(names)))
    return figure


@styled
def draw_accuracy_over_time(rows: Rows) -> Figure:
    """Best validation accuracy so far over the seconds of training, a line a training."""
    figure, axes = new_axes(8.4, 3.8)
    for place, row in enumerate(rows):
        for number, run in enumerate(row["histories"]):
            best, seconds, reached = 0.0, [], []
            for when, accuracy in run:
                best = max(best, accuracy)
                seconds.append(when)
                reached.append(best)
            label = row["model"] if number == 0 else "_"
            axes.plot(seconds, reached, color=_colour(place), label=label, linewidth=1.2)
    axes.set_xlabel("training (s)")
    axes.set_ylabel("validation top-1, best so far (%)")
    per_cent_axis(axes)
    legend_above(axes)
    return figure
