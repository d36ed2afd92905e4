"""The best trials, grouped: dendrogram and the clusters' means."""

from collections.abc import Mapping

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure

from betanas.analysis.clusters import Clustering, normalised
from betanas.analysis.figures.style import (
    CLUSTER_COLOURS,
    INK,
    MUTED,
    legend_above,
    new_axes,
    styled,
)


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
    ranges: Mapping[str, tuple[float, float]],
    recommended: Mapping[str, float] | None,
) -> Figure:
    """Each cluster's mean kernel on normalised parameters, the recommended one beside them."""
    figure, axes = new_axes(8.4, 3.4)
    x = np.arange(len(ranges))
    for cluster in clustering.clusters:
        axes.plot(
            x, normalised(cluster.mean_parameters, ranges), "o-", markersize=4,
            color=cluster_colour(cluster.label),
            label=f"cluster {cluster.label}: {cluster.size}, {100 * cluster.mean_value:.2f} %",
        )  # fmt: skip
    if recommended is not None:
        axes.plot(
            x, normalised(recommended, ranges), "D--", markersize=4, color=INK, label="recommended"
        )
    axes.set_xticks(x, list(ranges))
    axes.set_ylim(-0.03, 1.03)
    axes.set_ylabel("share of its range")
    legend_above(axes, 3)
    return figure
