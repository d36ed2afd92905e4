"""The report's section on trainings with other seeds."""

from collections.abc import Mapping

from betanas.analysis.cells import per_cent, plain_cell, share_cell
from betanas.analysis.confirmation import Confirmed
from betanas.analysis.pieces import figure, table
from betanas.analysis.tables import Table


def confirmed_section(
    found: Confirmed | None, tables: Mapping[str, Table], figures: Mapping[str, str]
) -> str:
    """How sure the order of the best is, as HTML; empty if nothing was trained again."""
    if found is None:
        return ""
    intro = (
        "<p>The best trials of the search, trained again with new seeds. What the search measured "
        "was the luckiest of many and is shown, but counts for nothing here.</p>"
    )
    parts = [
        intro,
        figure(
            figures["confirmed"],
            "Diamonds: what the search had measured; orange: no search, only size.",
        ),
    ]
    if found.noise_std is None:
        return "".join(parts) + "<p>No model was trained twice: the order remains unknown.</p>"
    parts.append(
        f"<p>One training differs from the next by {per_cent(found.noise_std)} (standard deviation "
        f"over seeds, {found.degrees} degrees of freedom).</p>"
    )
    d = found.against_largest
    if d is not None:
        parts.append(
            f"<p>The search's best, trial {d.better}, beats the largest feasible model with "
            f"probability <strong>{per_cent(d.probability)}</strong>: difference "
            f"{100 * d.mean:+.2f} points, 95 % interval {100 * d.low:+.2f} to "
            f"{100 * d.high:+.2f}.</p>"
        )
    chances = Table(
        ("model", "is the best", *(f"beats {m.title}" for m in found.models)),
        [
            [m.title, m.probability_best, *(found.probability(m, o) for o in found.models)]
            for m in found.models
        ],
    )
    parts.append("<h3>With which probability</h3>" + table(chances, share_cell))
    parts.append(
        "<details><summary>Numbers</summary>"
        + table(tables["confirmed"], plain_cell)
        + "</details>"
    )
    return "\n".join(parts)
