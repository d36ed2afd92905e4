"""Cells of NASNet's search space as data, networks of two of them, and what those cost.

Zoph et al., 2018, "Learning Transferable Architectures for Scalable Image Recognition", section 3:
a cell reads the outputs of the two layers before it, makes five sums of two operations each, and
hands on some of its nodes, their channels side by side.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any, Self

from betanas.architecture.layers import Architecture, Block
from betanas.errors import InputError

AUXILIARY_CHANNELS = (128, 768)
"""Of the auxiliary head's convolutions, 1x1 and as large as what it reads."""


class Step(StrEnum):
    """What a node applies to an earlier one; separable convolutions are applied twice."""

    SEPARABLE_3 = "sep_3x3"
    SEPARABLE_5 = "sep_5x5"
    SEPARABLE_7 = "sep_7x7"
    AVERAGE = "avg_pool_3x3"
    MAXIMUM = "max_pool_3x3"
    IDENTITY = "identity"

    @property
    def kernel_size(self) -> int:
        """Of a separable convolution; 0 of all others."""
        return int(self[-1]) if self.startswith("sep") else 0

    @property
    def pools(self) -> bool:
        """Whether it is average or max pooling."""
        return self in (Step.AVERAGE, Step.MAXIMUM)


Read = tuple[Step, int]
CURRENT, PREVIOUS = 0, 1  # the nodes that a cell begins with: the layer before, and the one before


@dataclass(frozen=True, slots=True)
class SumCell:
    """One cell.

    Attributes:
        sums: Of each node from number 2 on, the two steps and the nodes that they read. In a
            reduction, what reads node 0 or 1 has stride 2.
        output: The nodes that it hands on.
    """

    sums: tuple[tuple[Read, Read], ...]
    output: tuple[int, ...]

    def __post_init__(self) -> None:
        for node, reads in enumerate(self.sums, start=2):
            for step, read in reads:
                if not 0 <= read < node:
                    raise InputError(
                        f"node {node} of a cell must read one before it, but {step} reads {read}"
                    )

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """Rebuilds what ``asdict`` made of it."""
        pairs = [[(Step(step), read) for step, read in reads] for reads in data["sums"]]
        return cls(tuple((a, b) for a, b in pairs), tuple(data["output"]))

    def __str__(self) -> str:
        nodes = [" + ".join(f"{step}({read})" for step, read in reads) for reads in self.sums]
        told = ", ".join(f"{i} = {node}" for i, node in enumerate(nodes, start=2))
        return f"{told} -> {' '.join(map(str, self.output))}"


# NASNet-A: the paper's Figure 4.
NORMAL_A = SumCell(
    (
        ((Step.SEPARABLE_5, CURRENT), (Step.SEPARABLE_3, PREVIOUS)),
        ((Step.SEPARABLE_5, PREVIOUS), (Step.SEPARABLE_3, PREVIOUS)),
        ((Step.AVERAGE, CURRENT), (Step.IDENTITY, PREVIOUS)),
        ((Step.AVERAGE, PREVIOUS), (Step.AVERAGE, PREVIOUS)),
        ((Step.SEPARABLE_3, CURRENT), (Step.IDENTITY, CURRENT)),
    ),
    (PREVIOUS, 2, 3, 4, 5, 6),
)
REDUCTION_A = SumCell(
    (
        ((Step.SEPARABLE_5, CURRENT), (Step.SEPARABLE_7, PREVIOUS)),
        ((Step.MAXIMUM, CURRENT), (Step.SEPARABLE_7, PREVIOUS)),
        ((Step.AVERAGE, CURRENT), (Step.SEPARABLE_5, PREVIOUS)),
        ((Step.IDENTITY, 3), (Step.AVERAGE, 2)),
        ((Step.SEPARABLE_3, 2), (Step.MAXIMUM, CURRENT)),
    ),
    (3, 4, 5, 6),
)


@dataclass(frozen=True)  # no slots: super() does not go together with them
class SumCellNetwork(Architecture):
    """A convolution, and behind it cells of two kinds: ``NORMAL``, and ``REDUCTION`` of stride 2.

    A layer's ``expanded_channels`` are those of the nodes inside. The first cell's previous layer
    is the convolution itself, as is its current one.

    Attributes:
        normal: What every ``NORMAL`` consists of.
        reduction: What every ``REDUCTION`` consists of.
        auxiliary_after: The layer whose output an auxiliary head reads.
    """

    normal: SumCell
    reduction: SumCell
    auxiliary_after: int

    def cell_of(self, place: int) -> SumCell:
        """The cell that a layer is."""
        return self.normal if self.layers[place].block is Block.NORMAL else self.reduction

    @property
    def fingerprint(self) -> str:
        """16 hexadecimal digits, equal exactly for equal chains of equal cells."""
        return self._digest([super().fingerprint, asdict(self.normal), asdict(self.reduction)])

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Self:
        """Rebuilds what ``to_json`` wrote."""
        cells = {name: SumCell.from_json(data[name]) for name in ("normal", "reduction")}
        return super().from_json({**data, **cells})


@dataclass
class _Sum:
    """Costs as they are added up: weights, multiply-adds, values kept of an image and of a step."""

    num_params: int = 0
    macs: int = 0
    saved: int = 0
    norms: int = 0

    def convolution(self, weights: int, area: int) -> None:
        self.num_params += weights
        self.macs += weights * area

    def norm(self, channels: int, area: int) -> None:
        """Batch norm trains two values a channel, keeps its input, and the batch's statistics."""
        self.num_params += 2 * channels
        self.norms += 2 * channels
        self.saved += channels * area


def count_sums(network: SumCellNetwork, batch_size: int) -> tuple[int, int, int]:
    """Counts a network without its auxiliary head.

    Args:
        network: What to count.
        batch_size: Images of one training step on one device.

    Returns:
        Trainable weights, multiply-adds of one image, and values that autograd keeps of one
        training step for the whole batch.
    """
    found, layers = _Sum(), network.layers
    head, last = layers[0], layers[-1]
    found.convolution(9 * head.in_channels * head.out_channels, head.out_resolution**2)
    found.norm(head.out_channels, head.out_resolution**2)
    found.saved += head.in_channels * head.in_resolution**2
    for place in range(1, len(layers)):
        _count_cell(found, network, place)
    # What a layer hands on has gone through a ReLU, which keeps it; the cells behind read that.
    found.saved += sum(y.out_channels * y.out_resolution**2 for y in layers)
    found.convolution(last.out_channels * network.num_classes, 1)
    found.num_params += network.num_classes
    found.saved += last.out_channels
    return found.num_params, found.macs, batch_size * found.saved + found.norms


def _count_cell(found: _Sum, network: SumCellNetwork, place: int) -> None:
    """Adds one cell: both inputs brought to its channels, then its steps."""
    layer, cell = network.layers[place], network.cell_of(place)
    channels, side = layer.expanded_channels, layer.in_resolution
    widths = [channels, layer.in_channels]
    found.convolution(layer.in_channels * channels, side**2)
    found.norm(channels, side**2)
    if place > 1:
        before = network.layers[place - 2]
        found.convolution(before.out_channels * channels, side**2)
        found.norm(channels, side**2)
        if before.out_resolution % 2 and before.out_resolution != side:
            found.saved += before.out_channels * side**2  # the shifted half, padded
        widths[PREVIOUS] = channels
    area = layer.out_resolution**2
    steps = [read for reads in cell.sums for read in reads]
    for step, read in steps:
        width = widths[read] if read <= PREVIOUS else channels
        if step.kernel_size:
            window = step.kernel_size**2
            for inside in (width, channels):
                found.convolution(inside * (window + channels), area)
                found.norm(channels, area)
                found.saved += inside * area  # between depthwise and pointwise
            found.saved += channels * area  # the ReLU between both convolutions
        if step is Step.MAXIMUM:
            found.saved += 2 * width * area  # an index is twice as large as a value
    read_by = {kind: {n for s, n in steps if kind(s)} for kind in (_rectifies, _pools)}
    for nodes in read_by.values():  # one ReLU for all that read a node; pooling keeps what it reads
        for node in nodes:
            if node == PREVIOUS and place == 1:
                continue  # a layer's output, which is counted there
            inside = side if node <= PREVIOUS else layer.out_resolution
            found.saved += channels * inside**2


def _rectifies(step: Step) -> bool:
    return step.kernel_size > 0


def _pools(step: Step) -> bool:
    return step.pools
