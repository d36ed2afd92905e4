"""Tables for people and for programs: architectures, kernels, trials."""

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rich.console import Console
from rich.table import Table

from betanas.analysis.front import TITLES, Front
from betanas.architecture.cells import CellNetwork
from betanas.architecture.complexity import Complexity
from betanas.architecture.layers import Architecture, Layer
from betanas.architecture.nasnet_cells import SumCellNetwork
from betanas.cli.options import per_cent, short
from betanas.study.sections import ACCURACY, LATENCY
from betanas.trial import TrialRecord


def architecture_json(architecture: Architecture, complexity: Complexity) -> dict[str, Any]:
    """The JSON of ``betanas describe``: one entry a layer, and the costs."""
    layers = [
        {
            "block": str(y.block),
            "in_channels": y.in_channels,
            "out_channels": y.out_channels,
            "expansion_ratio": y.expansion_ratio,
            "stride": y.stride,
            "se_ratio": y.se_ratio,
            "in_resolution": y.in_resolution,
            "out_resolution": y.out_resolution,
            "expanded_channels": y.expanded_channels,
            "squeeze_channels": y.squeeze_channels,
            "stochastic_depth": y.stochastic_depth,
        }
        for y in architecture.layers
    ]
    cells = {name.lower(): cell for name, cell in _cells(architecture).items()}
    return {
        "resolution": architecture.resolution,
        "num_classes": architecture.num_classes,
        "layers": layers,
        "num_params": complexity.num_params,
        "macs": complexity.macs,
        "activation_bytes": complexity.activation_bytes,
        "latent_channels": architecture.latent_channels,
        "fingerprint": architecture.fingerprint,
        **cells,
    }


def _cells(architecture: Architecture) -> dict[str, str]:
    """What layers that are cells consist of, by their block."""
    if isinstance(architecture, CellNetwork):
        return {"CELL": str(architecture.cell)}
    if isinstance(architecture, SumCellNetwork):
        return {"NORMAL": str(architecture.normal), "REDUCTION": str(architecture.reduction)}
    return {}


@dataclass(frozen=True, slots=True)
class Row:
    """Equal layers in a row, as the published tables print them: ratios are means."""

    layers: tuple[Layer, ...]

    @property
    def expansion_ratio(self) -> float:
        """Mean expansion ratio."""
        return sum(y.expansion_ratio for y in self.layers) / len(self.layers)

    @property
    def se_ratio(self) -> float:
        """Mean squeeze-excitation ratio."""
        return sum(y.se_ratio for y in self.layers) / len(self.layers)


def collapse(architecture: Architecture) -> list[Row]:
    """Joins neighbours of the same block, channels and stride, as in Tables A1 and A3."""

    def shape(layer: Layer) -> tuple[object, ...]:
        return layer.block, layer.in_channels, layer.out_channels, layer.stride

    rows: list[list[Layer]] = []
    for layer in architecture.layers:
        if rows and shape(rows[-1][0]) == shape(layer):
            rows[-1].append(layer)
        else:
            rows.append([layer])
    return [Row(tuple(row)) for row in rows]


def print_architecture(
    console: Console, architecture: Architecture, complexity: Complexity, batch_size: int
) -> None:
    """The published form of a layer table, and what the network costs."""
    table = Table(box=None, pad_edge=False)
    for name in ("block", "in", "out", "expansion", "stride", "SE ratio", "side", "repeats"):
        table.add_column(name, justify="left" if name == "block" else "right")
    for row in collapse(architecture):
        first = row.layers[0]
        table.add_row(
            str(first.block),
            str(first.in_channels),
            str(first.out_channels),
            f"{row.expansion_ratio:.2f}",
            str(first.stride),
            f"{row.se_ratio:.2f}",
            str(first.out_resolution),
            str(len(row.layers)),
        )
    console.print(table)
    for name, cell in _cells(architecture).items():
        console.print(f"{name} {cell}", highlight=False, markup=False, soft_wrap=True)
    console.print(
        f"R={architecture.resolution}, {architecture.num_classes} classes, "
        f"latent {architecture.latent_channels}: {complexity.num_params:,} parameters, "
        f"{short(complexity.macs)} multiply-adds, "
        f"{complexity.activation_bytes / 2**20:,.0f} MiB of activations for {batch_size} images; "
        f"fingerprint {architecture.fingerprint}",
        highlight=False,
        soft_wrap=True,
    )


def print_kernels(console: Console, kernels: Mapping[str, Mapping[str, Any]]) -> None:
    """Kernels side by side, a row a parameter."""
    table = Table(box=None, pad_edge=False)
    table.add_column("parameter")
    for name in kernels:
        table.add_column(name, justify="right")
    for parameter in next(iter(kernels.values())):
        shown = (kernel.get(parameter, "-") for kernel in kernels.values())
        table.add_row(parameter, *(f"{v:.4f}" if isinstance(v, float) else str(v) for v in shown))
    console.print(table)


def print_front(console: Console, front: Front) -> None:
    """The trials that no other one beats, a row each."""
    table = Table(box=None, pad_edge=False)
    for name in ("front", "trial", *(TITLES[name] for name in front.objectives)):
        table.add_column(name, justify="right")
    for place, record in enumerate(front.trials):
        shown = (shown_value(name, record.values[name]) for name in front.objectives)
        table.add_row(str(place), str(record.number), *shown)
    console.print(table)


def shown_value(objective: str, value: float | None) -> str:
    """A trial's value for one objective, as people read it."""
    if value is None:
        return "-"
    if objective == ACCURACY:
        return per_cent(value)
    return f"{value:.2f}" if objective == LATENCY else short(int(value))


_COLUMNS = (
    "number", "state", "phase", "value", "reason", "num_params", "macs", "activation_bytes",
    "fingerprint", "train_seconds", "epochs",
)  # fmt: skip


def trials_csv(records: Sequence[TrialRecord]) -> str:
    """All trials as comma-separated values: the columns of the JSON, a column a parameter."""
    parameters = sorted({name for r in records for name in r.parameters}, key=str.lower)
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    latency = [LATENCY] if _have_latency(records) else []
    weighed = [ACCURACY] if any(r.is_weighed for r in records) else []
    writer.writerow([*_COLUMNS, *weighed, *latency, *parameters])
    for record in records:
        row = [getattr(record, name) for name in _COLUMNS]
        row += [record.accuracy for _ in weighed]
        row += [record.values.get(name, record.latency_ms) for name in latency]
        writer.writerow(row + [record.parameters.get(name) for name in parameters])
    return text.getvalue()


def print_trials(console: Console, records: Sequence[TrialRecord]) -> None:
    """The trials, a row each."""
    table = Table(box=None, pad_edge=False)
    timed = _have_latency(records)
    weighed = any(r.is_weighed for r in records)
    for name in ("trial", "state", "phase", "accuracy", "params", "macs", "epochs", "seconds"):
        table.add_column(name, justify="left" if name in ("state", "phase") else "right")
    if timed:
        table.add_column(TITLES[LATENCY], justify="right")
    if weighed:
        table.add_column("weighed", justify="right")
    table.add_column("reason")
    for r in records:
        table.add_row(
            str(r.number),
            r.state,
            r.phase or "-",
            per_cent(r.accuracy),
            short(r.num_params),
            short(r.macs),
            "-" if r.epochs is None else f"{r.epochs:.1f}",
            "-" if r.train_seconds is None else f"{r.train_seconds:.1f}",
            *([shown_value(LATENCY, r.values.get(LATENCY, r.latency_ms))] if timed else []),
            *(["-" if r.value is None else f"{r.value:.4f}"] if weighed else []),
            r.reason or "",
        )
    console.print(table)


def _have_latency(records: Sequence[TrialRecord]) -> bool:
    """Whether trials have measured it, or it is an objective."""
    return any(r.latency_ms is not None or LATENCY in r.values for r in records)
