"""A network as a picture: its resolution and width along the depth, and the curves behind them."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from betanas.analysis.figures.style import (
    BLOCK_COLOURS,
    FAINT,
    GREEN,
    INK,
    MUTED,
    PURPLE,
    new_figure,
    styled,
    whole_numbers,
)
from betanas.architecture.beta import beta_cdf, beta_ppf
from betanas.architecture.layers import Architecture

_CURVES = (
    ("contractions", "Da", "Db", True),
    ("adjustments", "WLa", "WLb", True),
    ("widths", "Wa", "Wb", False),
    ("widths", "WCa", "WCb", False),
)


@styled
def draw_architecture(architecture: Architecture, kernel: Mapping[str, Any]) -> Figure:
    """Draws one network: resolution upwards, channels downwards, a bar a layer.

    The small plots beside it are the kernel's Beta curves: where along the depth the contractions
    (and BetaNet3's width adjustments) fall, and how the width grows.

    Args:
        architecture: What the kernel decodes to.
        kernel: ``name -> value``.
    """
    curves = [c for c in _CURVES if c[1] in kernel]
    figure = new_figure(8.4, 3.9)
    half = max(len(curves), 1)
    grid = figure.add_gridspec(2 * half, 4)
    wide = slice(3 if curves else 4)  # only some families have curves to show beside the bars
    above = figure.add_subplot(grid[:half, wide])
    below = figure.add_subplot(grid[half:, wide], sharex=above)
    _draw_bars(above, below, architecture)
    contractions = sum(layer.stride == 2 for layer in architecture.layers)
    for i, (title, a, b, placed) in enumerate(curves):
        axes = figure.add_subplot(grid[2 * i : 2 * i + 2, 3])
        _draw_curve(axes, kernel[a], kernel[b], contractions if placed else 0)
        axes.set_title(f"{title}  {a} {kernel[a]:.2f}  {b} {kernel[b]:.2f}", fontsize=8, pad=3)
        if i == len(curves) - 1:
            axes.set_xlabel("halvings behind" if a == "Wa" else "depth")
    return figure


def _draw_bars(above: Axes, below: Axes, architecture: Architecture) -> None:
    layers = architecture.layers
    x = np.arange(len(layers))
    colours = [BLOCK_COLOURS[layer.block] for layer in layers]
    sides = np.array([layer.out_resolution for layer in layers], dtype=np.float64)
    channels = np.array([layer.out_channels for layer in layers], dtype=np.float64)
    floor = 0.5 * sides.min()
    above.bar(x, sides - floor, bottom=floor, width=0.88, color=colours)
    above.set_yscale("log", base=2)
    above.set_ylim(floor, 1.25 * architecture.resolution)
    above.axhline(architecture.resolution, color=FAINT, linewidth=1)
    shown = sorted({int(side) for side in sides} | {architecture.resolution})
    above.set_yticks(shown, [str(side) for side in shown], minor=False)
    above.minorticks_off()
    above.set_ylabel("resolution (px)")
    above.tick_params(labelbottom=False, bottom=False)
    above.grid(axis="x", visible=False)
    below.bar(x, channels, width=0.88, color=colours)
    below.invert_yaxis()
    below.set_ylabel("channels")
    below.set_xlabel("layer")
    whole_numbers(below)
    below.grid(axis="x", visible=False)
    # The channels hang from the line that the resolutions stand on.
    below.spines["bottom"].set_visible(False)
    contracts = [i for i, layer in enumerate(layers) if layer.stride == 2]
    above.plot(
        contracts, 1.12 * sides[contracts], "v", color=INK, markersize=4, label="stride 2",
        linestyle="none",
    )  # fmt: skip
    names = {
        "CNA": "convolution", "FMBC": "Fused-MBConv", "MBC": "MBConv", "RES": "residual",
        "CNX": "ConvNeXt", "CN": "convolution", "CELL": "cell", "RED": "reduction",
    }  # fmt: skip
    kinds = [kind for kind in names if any(layer.block == kind for layer in layers)]
    handles: list[object] = [Patch(color=BLOCK_COLOURS[k], label=names[k]) for k in kinds]
    handles += above.get_legend_handles_labels()[0]
    above.legend(handles=handles, loc="upper right", ncols=2)


def _draw_curve(axes: Axes, log10_a: float, log10_b: float, marks: int) -> None:
    """The cumulative function of one Beta distribution; marks are the layers it places."""
    x = np.linspace(0, 1, 101)
    axes.plot(x, beta_cdf(x, log10_a, log10_b), color=PURPLE if marks else GREEN, linewidth=1.5)
    if marks:
        share = np.arange(1, marks) / marks
        where = beta_ppf(share, log10_a, log10_b)
        axes.vlines(where, 0, share, color=MUTED, linewidth=0.8)
        axes.plot(where, share, "o", color=PURPLE, markersize=3)
    axes.set_xlim(0, 1)
    axes.set_ylim(0, 1.03)
    axes.set_xticks([0, 0.5, 1], ["0", "½", "1"])
    axes.set_yticks([0, 1])
