"""How numbers read on the report's page."""

from betanas.analysis.measure import Measure
from betanas.study.sections import ACCURACY

COUNTS = ("num_params", "macs", "activation_bytes")
VALUES = ("value", "searched", "mean", "std")


def short_count(value: float) -> str:
    """A count with a unit: 8.86M."""
    for unit, size in (("T", 1e12), ("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if abs(value) >= size:
            return f"{value / size:.3g}{unit}"
    return f"{value:.3g}"


def plain_number(value: float, column: str, measure: Measure) -> str:
    """A number of a table by what its column means; the measure is of the study's values."""
    if column in COUNTS:
        return short_count(value)
    if column in VALUES or column.startswith("value ("):
        return measure.told(value)
    if column == ACCURACY:
        return measure.plain.told(value)
    if column == "probability_best":
        return per_cent(value)
    if column == "latency_seconds":
        return f"{1000 * value:.2f} ms"
    return f"{value:g}" if value == int(value) else f"{value:.3f}"


def kernel_number(value: float, row: str, measure: Measure) -> str:
    """A number of a table with a row a parameter, and what the kernels reach and cost below."""
    if row in COUNTS:
        return short_count(value)
    if row in (measure.name, "mean evaluation"):
        return measure.told(value)
    return f"{value:g}" if row == "trials" or isinstance(value, int) else f"{value:.3f}"


def share(value: float, _column: str) -> str:
    """A number of a table of shares."""
    return f"{100 * value:.1f} %"


def per_cent(value: float | None) -> str:
    """An accuracy as people read it; a value that cannot be one as it is."""
    if value is None:
        return "–"
    return f"{100 * value:.2f} %" if abs(value) <= 1 else f"{value:.2f}"


def decimal(value: float | None) -> str:
    """A number near 1 as people read it."""
    return "–" if value is None else f"{value:.3f}"


def duration(seconds: float) -> str:
    """A time in its handiest unit."""
    if seconds >= 7200:
        return f"{seconds / 3600:.1f} h"
    return f"{seconds / 60:.0f} min" if seconds >= 120 else f"{seconds:.0f} s"
