"""Networks of cells as modules; every operation is computed, as in NAS-Bench-201's own networks.

Dong and Yang, 2020, "NAS-Bench-201", section 2.1; published as ``TinyNetwork`` in their
``xautodl`` package.
"""

import torch
from torch import Tensor, nn

from betanas.architecture.cells import EDGES, Cell, CellNetwork, Operation
from betanas.architecture.layers import Block, Layer


def _relu_conv_norm(
    in_channels: int, out_channels: int, kernel_size: int, stride: int = 1
) -> nn.Sequential:
    """ReLU, convolution, batch norm; other operations read the same input, so not in place."""
    padding = kernel_size // 2
    return nn.Sequential(
        nn.ReLU(),
        nn.Conv2d(in_channels, out_channels, kernel_size, stride, padding, bias=False),
        nn.BatchNorm2d(out_channels),
    )


class Zero(nn.Module):
    """Multiplies by 0, so that weights which nothing depends on have a gradient, which is 0."""

    def forward(self, x: Tensor) -> Tensor:
        """Zeros of the same shape."""
        return x * 0.0


class Nothing(nn.Module):
    """Stands for an operation that adds nothing to its node, where no gradients are needed."""

    def forward(self, x: Tensor) -> None:
        """Computes nothing."""


class UnreadReLU(nn.ReLU):
    """Begins such an operation: what hooks a ReLU sees its input."""

    def forward(self, x: Tensor) -> None:  # type: ignore[override]
        """Computes nothing."""


def _operation(operation: Operation, channels: int) -> nn.Module:
    match operation:
        case Operation.NONE:
            return Zero()
        case Operation.SKIP:
            return nn.Identity()
        case Operation.POOL:
            return nn.AvgPool2d(3, stride=1, padding=1, count_include_pad=False)
        case Operation.CONV_1X1:
            return _relu_conv_norm(channels, channels, 1)
        case Operation.CONV_3X3:
            return _relu_conv_norm(channels, channels, 3)


class CellModule(nn.Module):
    """One cell, ``b x c x r x r`` to the same: each node is a sum over those before it."""

    def __init__(self, cell: Cell, channels: int) -> None:
        super().__init__()
        self.cell = cell
        self.edges = nn.ModuleList(_operation(o, channels) for o in cell.operations)

    def leave_out_idle(self) -> None:
        """Has only computed what the output or a ReLU's input depends on; then without gradients.

        Batch norms must use the batch's statistics, by which they turn all zeros into their bias.
        """
        nonzero, read = {0}, {3}  # nodes
        adds: list[bool] = []
        for operation, edge, (source, target) in zip(
            self.cell.operations, self.edges, EDGES, strict=True
        ):
            norms = [m for m in edge.children() if isinstance(m, nn.BatchNorm2d)]
            biased = any(bool(norm.bias.any()) for norm in norms)
            adds.append(operation is not Operation.NONE and (source in nonzero or biased))
            if adds[-1]:
                nonzero.add(target)
        for i, (source, target) in reversed(list(enumerate(EDGES))):
            has_relu = any(isinstance(m, nn.ReLU) for m in self.edges[i].children())
            needed = adds[i] and target in read
            if needed or has_relu:
                read.add(source)
            if not needed:
                self.edges[i] = UnreadReLU() if has_relu else Nothing()

    def forward(self, x: Tensor) -> Tensor:
        """The last node."""
        nodes: list[Tensor | None] = [x, None, None, None]
        for edge, (source, target) in zip(self.edges, EDGES, strict=True):
            if nodes[source] is None:  # all that leads there was left out
                nodes[source] = torch.zeros_like(x)
            term, so_far = edge(nodes[source]), nodes[target]
            if term is not None:
                nodes[target] = term if so_far is None else so_far + term
        last = nodes[-1]
        return torch.zeros_like(x) if last is None else last


class Reduction(nn.Module):
    """A residual block that halves the side, ``b x in x r x r`` to ``b x out x r/2 x r/2``."""

    def __init__(self, layer: Layer) -> None:
        super().__init__()
        self.block = nn.Sequential(
            _relu_conv_norm(layer.in_channels, layer.out_channels, 3, layer.stride),
            _relu_conv_norm(layer.out_channels, layer.out_channels, 3),
        )
        odd = layer.in_resolution % 2 == 1
        self.shortcut = nn.Sequential(
            nn.AvgPool2d(layer.stride, ceil_mode=odd),  # rounds as the convolution does
            nn.Conv2d(layer.in_channels, layer.out_channels, 1, bias=False),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Sums both ways."""
        return self.block(x) + self.shortcut(x)  # type: ignore[no-any-return]


class CellNet(nn.Module):
    """A whole network: ``b x 3 x R x R`` images to ``b x num_classes`` logits."""

    def __init__(self, network: CellNetwork, num_classes: int) -> None:
        super().__init__()
        channels = network.layers[-1].out_channels
        self.features = nn.Sequential(*(_build_layer(y, network.cell) for y in network.layers))
        self.last = nn.Sequential(nn.BatchNorm2d(channels), nn.ReLU())
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.classifier = nn.Linear(channels, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        """Classifies a batch of normalised images."""
        return self.classifier(self.pool(self.last(self.features(x))).flatten(1))  # type: ignore[no-any-return]


def _build_layer(layer: Layer, cell: Cell) -> nn.Module:
    match layer.block:
        case Block.CELL:
            return CellModule(cell, layer.in_channels)
        case Block.RED:
            return Reduction(layer)
        case _:
            return nn.Sequential(
                nn.Conv2d(layer.in_channels, layer.out_channels, 3, padding=1, bias=False),
                nn.BatchNorm2d(layer.out_channels),
            )
