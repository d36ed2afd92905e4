"""How the search went: history, outcomes, and where in the space the good trials lie."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure

from betanas.analysis.axes import options, places
from betanas.analysis.clusters import complete_trials, highlighted
from betanas.analysis.figures.style import (
    BLUE,
    FAINT,
    GREEN,
    INK,
    MUTED,
    OLIVE,
    ORANGE,
    PAPER,
    PINK,
    PURPLE,
    RED,
    TEAL,
    legend_above,
    new_axes,
    styled,
    value_axis,
    whole_numbers,
)
from betanas.analysis.measure import Measure
from betanas.parameters import Choice, Parameter, is_whole
from betanas.trial import STOPPED_EARLY, TrialRecord

_LABEL = 24  # characters
_WIDTH, _AXIS_INCHES = 8.4, 0.58  # at least the one, at least the other for each parameter
_ASIDE = 0.04  # share of an axis
_RASTERISE_ABOVE = 800  # lines: beyond, a picture inside the SVG is smaller than its paths


@styled
def draw_history(records: Sequence[TrialRecord], measure: Measure) -> Figure:
    """Every trial in order: values by phase, the running best, rejected and failed ones below."""
    figure, axes = new_axes()
    complete = sorted(complete_trials(records), key=lambda r: r.number)
    phases = sorted({r.phase or "" for r in complete}, key=lambda p: (p != "sobol", p))
    for phase, colour in zip(phases, (MUTED, BLUE, PURPLE, TEAL, PINK) * 9, strict=False):
        own = [r for r in complete if (r.phase or "") == phase]
        axes.scatter(
            [r.number for r in own], [r.value or 0.0 for r in own], s=13, color=colour,
            alpha=0.75, linewidths=0, label=_plain(phase),
        )  # fmt: skip
    if complete:
        numbers = [r.number for r in complete]
        best = np.maximum.accumulate([r.value or 0.0 for r in complete])
        axes.step(
            [*numbers, max(r.number for r in records)], [*best, best[-1]],
            where="post", color=ORANGE, label="best so far",
        )  # fmt: skip
    below = axes.get_xaxis_transform()
    marks = (
        (RED, "rejected", [r.number for r in records if r.rejected]),
        (OLIVE, "ended early", [r.number for r in records if r.reason == STOPPED_EARLY]),
        (INK, "failed", [r.number for r in records if r.state == "fail"]),
    )
    for colour, name, numbers in marks:
        if numbers:
            axes.plot(
                numbers, [0.015] * len(numbers), "|", color=colour, markersize=7,
                transform=below, label=f"{name} ({len(numbers)})", clip_on=False,
            )  # fmt: skip
    axes.set_xlabel("trial")
    whole_numbers(axes)
    axes.set_ylabel(measure.axis())
    value_axis(axes, measure)
    legend_above(axes, 6)
    axes.margins(x=0.02, y=0.08)
    return figure


@styled
def draw_outcomes(outcomes: Mapping[str, Mapping[str, int]]) -> Figure:
    """What became of each phase's trials: complete, or why not."""
    figure, axes = new_axes(7.2, 1.1 + 0.42 * max(len(outcomes), 1))
    kinds = sorted({kind for counts in outcomes.values() for kind in counts})
    kinds.sort(key=lambda kind: kind != "complete")
    left = np.zeros(len(outcomes))
    others = (RED, ORANGE, PURPLE, TEAL, PINK, OLIVE, BLUE, MUTED)
    colours = dict(zip([k for k in kinds if k != "complete"], others * 9, strict=False))
    for kind in kinds:
        counts = np.array([counts.get(kind, 0) for counts in outcomes.values()])
        axes.barh(
            [_plain(p) for p in outcomes], counts, left=left, height=0.62,
            color=colours.get(kind, GREEN), label=_plain(kind.replace("_", " ")),
        )  # fmt: skip
        left += counts
    axes.invert_yaxis()
    axes.grid(axis="y", visible=False)
    axes.set_xlabel("trials")
    whole_numbers(axes)
    legend_above(axes, 5)
    return figure


@styled
def draw_parallel_coordinates(
    records: Sequence[TrialRecord], parameters: Sequence[Parameter]
) -> Figure:
    """All kernels on normalised parameters; the best 50 and 100 stand out (of few, fewer).

    Trials of the same option are drawn side by side around its name.
    """
    figure, axes = new_axes(max(_WIDTH, _AXIS_INCHES * len(parameters)), 3.8)
    best = complete_trials(records)
    first, second = highlighted(len(best))
    groups = (
        ("others", [r for r in records if r.state != "complete"] + best[second:], FAINT, 0.55, 0.6),
        (f"best {first + 1} to {second}", best[first:second], ORANGE, 0.5, 0.8),
        (f"best {first}", best[:first], BLUE, 0.6, 0.9),
    )
    x = np.arange(len(parameters))
    is_choice = np.array([isinstance(p, Choice) for p in parameters], dtype=bool)
    for layer, (name, group, colour, alpha, width) in enumerate(groups):
        rows = [
            np.array(places(r.parameters, parameters)) + is_choice * _aside(r.number)
            for r in group
            if is_whole(r.parameters, parameters)
        ]
        lines = LineCollection(
            [np.column_stack([x, row]) for row in rows],
            colors=colour, alpha=alpha, linewidths=width, zorder=2 + layer,
            rasterized=len(rows) > _RASTERISE_ABOVE,
        )  # fmt: skip
        axes.add_collection(lines)
        axes.plot([], [], color=colour, label=f"{name} ({len(rows)})")
    for i, parameter in enumerate(parameters):
        for option, y in options(parameter).items():
            axes.text(
                i, y, option, fontsize=6.5, ha="center", va="center", zorder=9,
                bbox={"facecolor": PAPER, "edgecolor": FAINT, "linewidth": 0.5, "pad": 1.2},
            )  # fmt: skip
    axes.set_xlim(-0.2, len(parameters) - 0.8)
    axes.set_ylim(-0.03 - _ASIDE, 1.03 + _ASIDE) if is_choice.any() else axes.set_ylim(-0.03, 1.03)
    axes.set_xticks(x, _axis_names(parameters))
    axes.set_ylabel("share of its range")
    axes.grid(axis="y", visible=False)
    legend_above(axes, 3)
    return figure


def _aside(number: int) -> float:
    """How far off its option's place a trial is drawn: evenly spread, whichever are drawn."""
    return _ASIDE * (2 * (number * 0.6180339887 % 1) - 1)  # multiples of the golden ratio


def _axis_names(parameters: Sequence[Parameter]) -> list[str]:
    """Names with ranges below; of many, every other one is a step lower."""
    names = [
        p.name if isinstance(p, Choice) else f"{p.name}\n{p.range[0]:g}–{p.range[1]:g}"
        for p in parameters
    ]
    if len(names) * _AXIS_INCHES <= _WIDTH:
        return names
    return [("\n\n" if i % 2 else "") + name for i, name in enumerate(names)]


def _plain(text: str) -> str:
    """A label: short, and without the leading underscore that hides it from a legend."""
    name = text.lstrip("_") or "none"
    return name if len(name) <= _LABEL else name[: _LABEL - 1] + "…"
