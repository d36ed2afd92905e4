"""How the numbers of a table read on the page."""

from collections.abc import Sequence

from betanas.analysis.figures.style import short_count
from betanas.analysis.tables import Cell, Table

COUNTS = ("num_params", "macs", "activation_bytes")
ACCURACIES = ("value", "searched", "mean", "std", "probability_best")


class ShowCell:
    """How a kind of table shows its cells."""

    def __call__(self, table: Table, row: Sequence[Cell], column: int) -> str:
        """The text of one cell."""
        value, name = row[column], table.columns[column]
        if value is None:
            return "–"
        if isinstance(value, str):
            return value
        return self.number(float(value), name, str(row[0]))

    def number(self, value: float, column: str, row: str) -> str:
        """A number by its column's or its row's meaning."""
        if column in COUNTS:
            return short_count(value)
        if column in ACCURACIES:
            return per_cent(value)
        if column == "latency_seconds":
            return f"{1000 * value:.2f} ms"
        return f"{value:g}" if value == int(value) else f"{value:.3f}"


class _KernelCell(ShowCell):
    """A row a parameter, below them what the kernels reach and cost."""

    def number(self, value: float, column: str, row: str) -> str:
        if row in COUNTS:
            return short_count(value)
        if row in ("accuracy", "mean evaluation"):
            return per_cent(value)
        return f"{value:g}" if row == "trials" else f"{value:.3f}"


class _ShareCell(ShowCell):
    """Shares in per cent."""

    def number(self, value: float, column: str, row: str) -> str:
        return f"{100 * value:.1f} %"


plain_cell, kernel_cell, share_cell = ShowCell(), _KernelCell(), _ShareCell()


def per_cent(value: float | None) -> str:
    """An accuracy as people read it."""
    return "–" if value is None else f"{100 * value:.2f} %"


def duration(seconds: float) -> str:
    """A time in its handiest unit."""
    if seconds >= 7200:
        return f"{seconds / 3600:.1f} h"
    return f"{seconds / 60:.0f} min" if seconds >= 120 else f"{seconds:.0f} s"
