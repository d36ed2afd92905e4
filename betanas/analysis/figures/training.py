"""How trainings went: accuracy and loss against training time."""

from collections.abc import Sequence

from matplotlib.figure import Figure

from betanas.analysis.clusters import complete_trials
from betanas.analysis.evidence import history_of
from betanas.analysis.figures.style import BLUE, MUTED, ORANGE, new_figure, per_cent_axis, styled
from betanas.trial import TrialRecord

_OTHERS = 60


@styled
def draw_training(records: Sequence[TrialRecord], best: int = 5) -> Figure:
    """Validation accuracy and training loss along the training: the best few before the others."""
    figure = new_figure(8.4, 3.0)
    ranked = [r for r in complete_trials(records) if history_of(r)]
    rest = ranked[best:]
    others = rest[:: -(-len(rest) // _OTHERS)] if rest else []
    panels = (("accuracy", "validation accuracy (%)"), ("train_loss", "training loss"))
    for i, (key, label) in enumerate(panels):
        axes = figure.add_subplot(1, 2, i + 1)
        for record in others:
            points = history_of(record)
            axes.plot(
                [p["train_seconds"] for p in points], [p[key] for p in points], color=MUTED,
                linewidth=0.6, alpha=0.35, marker="." if len(points) == 1 else None,
            )  # fmt: skip
        for rank, record in reversed(list(enumerate(ranked[:best]))):
            points = history_of(record)
            axes.plot(
                [p["train_seconds"] for p in points], [p[key] for p in points],
                color=ORANGE if rank == 0 else BLUE, linewidth=2 if rank == 0 else 1.1,
                marker="o", markersize=3.5 if rank == 0 else 2, zorder=5 - rank / 10,
                label=f"trial {record.number}",
            )  # fmt: skip
        axes.set_xlabel("training time (s)")
        axes.set_ylabel(label)
        if key == "accuracy":
            per_cent_axis(axes)
            if ranked:
                handles, names = axes.get_legend_handles_labels()
                axes.legend(handles[::-1], names[::-1], loc="lower right")
    return figure
