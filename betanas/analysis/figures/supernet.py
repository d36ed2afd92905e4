"""How a supernet came to its network: loss and runtime, and what decides of each block."""

from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from betanas.analysis.evidence import supernet_history
from betanas.analysis.figures.style import (
    BLUE,
    GREEN,
    MUTED,
    ORANGE,
    PURPLE,
    new_figure,
    styled,
)
from betanas.architecture.mbconv import CHOICES
from betanas.trial import TrialRecord

_PATHS = dict(zip(CHOICES, (BLUE, ORANGE, GREEN, PURPLE, MUTED), strict=True))
# Of Single-Path its three gates, of ProxylessNAS its paths.
_COLOURS = {"kernel": BLUE, "expansion": ORANGE, "presence": GREEN} | _PATHS
_NAMES = {"kernel": "5x5", "expansion": "expansion 6", "presence": "block"}


@styled
def draw_supernets(records: Sequence[TrialRecord], best: int | None) -> Figure:
    """Training loss and predicted runtime along the steps of each supernet.

    Args:
        records: Of a one-shot study; those without a supernet are left out.
        best: The trial that is marked.
    """
    figure = new_figure(8.4, 3.0)
    panels = (("loss", "training loss"), ("runtime_ms", "runtime by the table (ms)"))
    for i, (key, label) in enumerate(panels):
        axes = figure.add_subplot(1, 2, i + 1)
        for record in records:
            points = supernet_history(record)
            if points:
                chosen = record.number == best
                axes.plot(
                    [p["steps"] for p in points], [p[key] for p in points], marker="o",
                    color=ORANGE if chosen else BLUE, markersize=3.5 if chosen else 2,
                    linewidth=2 if chosen else 1.1, zorder=5 if chosen else 4,
                    label=f"trial {record.number}",
                )  # fmt: skip
        axes.set_xlabel("steps of the supernet")
        axes.set_ylabel(label)
        _few_steps(axes)
    axes.legend()
    return figure


@styled
def draw_gates(record: TrialRecord) -> Figure:
    """What decides of each block of one supernet, along its steps: a row a stage.

    Args:
        record: A trial with a supernet.
    """
    points = supernet_history(record)
    final = points[-1]["gates"]
    stages = list(dict.fromkeys(name.partition("b")[0] for name in final))
    columns = max(int(name.partition("b")[2]) for name in final)
    # Thresholds are about a half, probabilities of five paths far below 1 for long.
    thresholds = all(set(gates) <= set(_NAMES) for gates in final.values())
    values = [v for p in points for gates in p["gates"].values() for v in gates.values()]
    top = 1.05 if thresholds else 1.1 * max(values)
    figure = new_figure(8.4, 1.0 + 1.25 * len(stages))
    drawn: dict[str, Line2D] = {}
    for name in final:
        stage, _, block = name.partition("b")
        axes = figure.add_subplot(len(stages), columns, stages.index(stage) * columns + int(block))
        for gate in final[name]:
            (drawn[gate],) = axes.plot(
                [p["steps"] for p in points], [p["gates"][name][gate] for p in points],
                color=_COLOURS[gate], marker=".", markersize=3,
            )  # fmt: skip
        if thresholds:
            axes.axhline(0.5, color=MUTED, linestyle="--", linewidth=0.8)
        axes.set_ylim(-0.05 * top, top)
        axes.set_title(f"{name}: {points[-1]['choices'][name]}", fontsize=8.5)
        _few_steps(axes)
        if stage != stages[-1]:
            axes.tick_params(labelbottom=False)
        if block != "1":
            axes.tick_params(labelleft=False)
    shown = [gate for gate in _COLOURS if gate in drawn]
    figure.legend(
        [drawn[gate] for gate in shown], [_NAMES.get(gate, gate) for gate in shown],
        loc="outside upper left", ncols=len(shown),
    )  # fmt: skip
    figure.supxlabel("steps of the supernet", fontsize=9)
    return figure


def _few_steps(axes: Axes) -> None:
    axes.locator_params(axis="x", nbins=4, integer=True)
