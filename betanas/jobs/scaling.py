"""A kernel scaled up: what each size costs, the largest that fits, and files that show it."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from betanas.analysis.scaling import (
    Ceiling,
    Rule,
    ScaledCost,
    Scaling,
    largest,
    scaled_costs,
    with_latency,
)
from betanas.files import make_folder, write_whole

Tell = Callable[[ScaledCost], None]


@dataclass(frozen=True, slots=True)
class ScaleOptions:
    """What is asked of a scaling.

    Attributes:
        resolutions: Input sides in pixels.
        batch_size: Images of a training step, for the activations.
        ceiling: What the largest may cost.
        measures: Whether to measure the latency at every side.
        device: Where to measure: ``auto``, ``cpu`` or ``cuda``.
        images: Of one answer whose latency is measured.
    """

    resolutions: Sequence[int]
    batch_size: int
    ceiling: Ceiling
    measures: bool = False
    device: str = "auto"
    images: int = 1


@dataclass(frozen=True, slots=True)
class ScaledUp:
    """One rule's outcome.

    Attributes:
        rule: Which.
        rows: In the order of the sides asked for.
        largest: Of the largest side that fits; None if none does, or nothing is limited.
    """

    rule: Rule
    rows: list[ScaledCost]
    largest: ScaledCost | None

    def to_json(self) -> dict[str, Any]:
        """As ``betanas scale --json`` prints it."""
        return {
            "rule": str(self.rule),
            "rows": [row.to_json() for row in self.rows],
            "largest": None if self.largest is None else self.largest.to_json(),
        }


def scale_up(scaling: Scaling, options: ScaleOptions, tell: Tell = lambda _: None) -> ScaledUp:
    """Costs at all sides, and the largest that fits.

    Under a limit of the latency those sides are measured that tell where it is crossed, halving the
    sides in question each time: a larger side is taken to be slower.

    Args:
        scaling: The kernel and its rule.
        options: What is asked.
        tell: Is told each row whose latency has been measured.

    Raises:
        InputError: For a number out of range, or no such device.
    """
    rows = scaled_costs(scaling, options.resolutions, options.batch_size)
    ceiling = options.ceiling
    if not options.measures and ceiling.latency_ms is None:
        return ScaledUp(scaling.rule, rows, largest(rows, ceiling) if ceiling.limits else None)
    measure = _measurer(scaling, options, tell)
    if options.measures:
        rows = [measure(row) if row.layers else row for row in rows]
    if not ceiling.limits:
        return ScaledUp(scaling.rule, rows, None)
    fitting = sorted({r for r in rows if ceiling.counted(r)}, key=lambda row: row.resolution)
    if ceiling.latency_ms is not None:
        low, high = 0, len(fitting)  # below ``low`` all are fast enough, from ``high`` on none is
        while low < high:
            middle = (low + high) // 2
            if fitting[middle].latency_ms is None:
                fitting[middle] = measure(fitting[middle])
            if (fitting[middle].latency_ms or 0.0) <= ceiling.latency_ms:
                low = middle + 1
            else:
                high = middle
        known = {row.resolution: row for row in fitting}
        rows = [known.get(row.resolution, row) for row in rows]
        fitting = fitting[:low]
    return ScaledUp(scaling.rule, rows, fitting[-1] if fitting else None)


def _measurer(
    scaling: Scaling, options: ScaleOptions, tell: Tell
) -> Callable[[ScaledCost], ScaledCost]:
    """What measures a row's network here."""
    from betanas.devices.find import find_devices  # noqa: PLC0415 - counting needs no torch
    from betanas.models.latency import measure_latency  # noqa: PLC0415

    device = find_devices(options.device, 1, claim=False).kind

    def measure(row: ScaledCost) -> ScaledCost:
        network = scaling.architecture(row.resolution)
        found = with_latency(row, 1000 * measure_latency(network, options.images, device).seconds)
        tell(found)
        return found

    return measure


def write_scaling(curves: Sequence[ScaledUp], title: str, base: int, folder: Path) -> list[Path]:
    """Writes the curves as a page, a figure and a table; files appear whole.

    Args:
        curves: One a rule, of the same sides.
        title: Of the page: what is scaled.
        base: The side that the kernel was found at, which the figure marks.
        folder: Made if it is not there; files of the same names are replaced.

    Returns:
        ``scaling.html``, ``scaling.csv`` and the figure as SVG and PNG.

    Raises:
        InputError: If the folder cannot be written.
    """
    from betanas.analysis.figures.costs import draw_curves  # noqa: PLC0415 - Matplotlib is slow
    from betanas.analysis.figures.style import to_png, to_svg  # noqa: PLC0415
    from betanas.analysis.page import render_scaling  # noqa: PLC0415
    from betanas.analysis.tables import curves_table  # noqa: PLC0415

    rows: Mapping[str, Sequence[ScaledCost]] = {str(c.rule): c.rows for c in curves}
    table, figure = curves_table(rows), draw_curves(rows, base)
    svg = to_svg(figure)
    files: dict[str, str | bytes] = {
        "scaling.html": render_scaling(title, svg, table),
        "scaling.csv": table.to_csv(),
        "figures/scaling.svg": svg,
        "figures/scaling.png": to_png(figure),
    }
    make_folder(folder, "figures")
    return [write_whole(folder / name, content) for name, content in files.items()]
