"""What the model has learnt: importance, partial dependence, and how far to believe it."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from betanas.analysis.figures.style import (
    BLUE,
    CLUSTER_COLOURS,
    MUTED,
    ORANGE,
    few_ticks,
    name_ticks,
    new_axes,
    new_figure,
    styled,
    value_axis,
    whole_numbers,
)
from betanas.analysis.importance import Dependence
from betanas.analysis.measure import Measure
from betanas.parameters import Value
from betanas.search.quality import ModelQuality

_FEW_OPTIONS = 3  # whose names fit side by side below a small plot


@styled
def draw_importance(importance: Mapping[str, Mapping[str, float]]) -> Figure:
    """Every method's shares side by side, a group of bars a parameter.

    Args:
        importance: ``method -> {parameter: share}``; the first method's order is kept.
    """
    names = list(next(iter(importance.values()), {}))
    figure, axes = new_axes(8.4, 3.2)
    height = 0.8 / max(len(importance), 1)
    for i, (method, own) in enumerate(importance.items()):
        axes.bar(
            np.arange(len(names)) - 0.4 + height * (i + 0.5),
            [100 * own.get(name, 0.0) for name in names],
            width=height * 0.9,
            color=CLUSTER_COLOURS[i % len(CLUSTER_COLOURS)],
            label=method,
        )
    name_ticks(axes, names)
    axes.grid(axis="x", visible=False)
    axes.set_ylabel("importance (%)")
    axes.legend(loc="upper right")
    return figure


@styled
def draw_partial_dependence(
    dependence: Sequence[Dependence], recommended: Mapping[str, Value] | None, measure: Measure
) -> Figure:
    """The model's value along each parameter, with one standard deviation either side.

    Between a choice's options there is nothing to draw: each has a point of its own.
    """
    columns = 4
    rows = -(-max(len(dependence), 1) // columns)
    figure = new_figure(8.4, 0.3 + 1.55 * rows)
    low = min((float((d.mean - d.std).min()) for d in dependence), default=0.0)
    high = max((float((d.mean + d.std).max()) for d in dependence), default=1.0)
    for i, d in enumerate(dependence):
        axes = figure.add_subplot(rows, columns, i + 1)
        marked = None if recommended is None else recommended[d.name]
        if d.options:
            _draw_options(axes, d, marked)
        else:
            axes.fill_between(
                d.grid, d.mean - d.std, d.mean + d.std, color=BLUE, alpha=0.18, linewidth=0
            )
            axes.plot(d.grid, d.mean, color=BLUE)
            if marked is not None:
                axes.axvline(float(marked), color=ORANGE, linewidth=1, linestyle="--")
            few_ticks(axes)
            if (d.grid == d.grid.round()).all():
                whole_numbers(axes)
        axes.set_ylim(low, high)
        axes.set_title(d.name, pad=3)
        value_axis(axes, measure)
        if i % columns:
            axes.tick_params(labelleft=False)
        else:
            axes.set_ylabel(measure.axis(measure.name))
    return figure


def _draw_options(axes: Axes, d: Dependence, marked: Value | None) -> None:
    x = np.arange(len(d.options))
    axes.vlines(x, d.mean - d.std, d.mean + d.std, color=BLUE, alpha=0.18, linewidth=9)
    axes.plot(x, d.mean, "o", color=BLUE, markersize=4)
    if marked in d.options:
        axes.axvline(d.options.index(str(marked)), color=ORANGE, linewidth=1, linestyle="--")
    axes.set_xlim(-0.6, len(x) - 0.4)
    # Of many options, every other name is a line lower.
    lower = ["\n" * (i % 2 and len(x) > _FEW_OPTIONS) for i in range(len(x))]
    axes.set_xticks(x, [a + b for a, b in zip(lower, d.options, strict=True)], fontsize=7)
    axes.grid(axis="x", visible=False)
    axes.locator_params(axis="y", nbins=4)


@styled
def draw_model_quality(quality: ModelQuality, measure: Measure) -> Figure:
    """What models fitted without a trial say of it, against what was measured."""
    figure, axes = new_axes(4.6, 4.0)
    ends = [
        min(quality.measured.min(), quality.predicted.min()),
        max(quality.measured.max(), quality.predicted.max()),
    ]
    axes.plot(ends, ends, color=MUTED, linewidth=1)
    axes.errorbar(
        quality.measured, quality.predicted, yerr=1.96 * quality.std, fmt="o", markersize=3,
        color=BLUE, ecolor=BLUE, elinewidth=0.5, alpha=0.5, linewidth=0,
    )  # fmt: skip
    axes.set_xlabel(measure.axis(f"measured {measure.name}"))
    axes.set_ylabel(measure.axis("predicted without the trial"))
    value_axis(axes, measure, "x")
    value_axis(axes, measure, "y")
    return figure
