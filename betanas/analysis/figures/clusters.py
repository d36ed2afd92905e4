"""The best trials, grouped: dendrogram and the clusters' means."""

from collections.abc import Mapping, Sequence

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from betanas.analysis.axes import places
from betanas.analysis.clusters import Clustering
from betanas.analysis.figures.style import (
    CLUSTER_COLOURS,
    INK,
    MUTED,
    legend_above,
    name_ticks,
    new_axes,
    new_figure,
    styled,
)
from betanas.analysis.measure import Measure
from betanas.parameters import Choice, Parameter, Value


def cluster_colour(label: int) -> str:
    """The colour of a cluster, label from 1."""
    return CLUSTER_COLOURS[(label - 1) % len(CLUSTER_COLOURS)]


@styled
def draw_dendrogram(clustering: Clustering) -> Figure:
    """The merges of the best trials; branches inside a cluster have its colour."""
    from scipy.cluster.hierarchy import dendrogram  # noqa: PLC0415 - beside its only use

    figure, axes = new_axes(8.4, 3.2)
    n = len(clustering.numbers)
    labels = dict(enumerate(int(label) for label in clustering.labels))
    for i, (left, right, _, _) in enumerate(clustering.linkage):
        below = {labels[int(left)], labels[int(right)]}
        labels[n + i] = below.pop() if len(below) == 1 else 0
    with mpl.rc_context({"lines.linewidth": 1.3}):
        tree = dendrogram(
            clustering.linkage,
            no_plot=True,
            link_color_func=lambda node: cluster_colour(labels[node]) if labels[node] else MUTED,
        )
    for xs, ys, colour in zip(tree["icoord"], tree["dcoord"], tree["color_list"], strict=True):
        axes.plot(xs, ys, color=colour, linewidth=1.3, solid_joinstyle="miter")
    leaves = list(tree["leaves"] or ())
    order = [clustering.numbers[i] for i in leaves]
    axes.set_xticks(5 + 10 * np.arange(n), [str(number) for number in order], rotation=90)
    for tick, leaf in zip(axes.get_xticklabels(), leaves, strict=True):
        tick.set_color(cluster_colour(labels[leaf]))
    axes.set_xlim(0, 10 * n)
    axes.set_ylim(bottom=0)
    axes.grid(axis="x", visible=False)
    axes.set_xlabel("trial")
    axes.set_ylabel("Ward distance")
    return figure


@styled
def draw_cluster_means(
    clustering: Clustering,
    parameters: Sequence[Parameter],
    recommended: Mapping[str, Value] | None,
    measure: Measure,
) -> Figure:
    """Each cluster's mean kernel on normalised parameters, the recommended one beside them.

    Below them the option of each choice that most trials of a cluster have; the fewer of them have
    it, the paler it is.
    """
    numbers = [p for p in parameters if not isinstance(p, Choice)]
    choices = [p for p in parameters if isinstance(p, Choice)]
    rows = len(clustering.clusters) + (recommended is not None)
    height = 0.35 + 0.2 * rows if choices else 0.0
    figure = new_figure(8.4, 3.4 + height)
    ratios = [3.4, height] if choices else [1]
    above, *below = figure.subplots(len(ratios), 1, height_ratios=ratios, squeeze=False)[:, 0]
    for cluster in clustering.clusters:
        above.plot(
            places(cluster.mean_parameters, numbers), "o-", markersize=4,
            color=cluster_colour(cluster.label),
            label=f"cluster {cluster.label}: {cluster.size}, {measure.told(cluster.mean_value)}",
        )  # fmt: skip
    if recommended is not None:
        above.plot(
            places(recommended, numbers), "D--", markersize=4, color=INK, label="recommended"
        )
    name_ticks(above, [p.name for p in numbers])
    above.set_ylim(-0.03, 1.03)
    above.set_ylabel("share of its range")
    legend_above(above, 3)
    if choices:
        _write_options(below[0], clustering, choices, recommended)
    return figure


def _write_options(
    axes: Axes,
    clustering: Clustering,
    choices: Sequence[Parameter],
    recommended: Mapping[str, Value] | None,
) -> None:
    """A column a choice, a row a cluster, the recommended kernel below."""
    lines = [
        (c.mean_parameters, c.option_shares, cluster_colour(c.label)) for c in clustering.clusters
    ]
    if recommended is not None:
        lines.append((dict(recommended), {}, INK))
    for y, (kernel, shares, colour) in enumerate(lines):
        for x, choice in enumerate(choices):
            axes.text(
                x, y, str(kernel[choice.name]), color=colour, fontsize=8, ha="center", va="center",
                alpha=0.3 + 0.7 * shares.get(choice.name, 1.0),
            )  # fmt: skip
    axes.set_xlim(-0.5, len(choices) - 0.5)
    axes.set_ylim(len(lines) - 0.5, -0.5)
    name_ticks(axes, [c.name for c in choices])
    axes.set_yticks([])
    axes.grid(visible=False)
