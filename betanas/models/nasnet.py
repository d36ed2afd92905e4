"""Networks of NASNet's cells as modules, with the auxiliary head that they may train with.

Zoph et al., 2018, "Learning Transferable Architectures for Scalable Image Recognition", and its
authors' ``nasnet.py`` in TensorFlow's slim, whose batch norms have an epsilon of 1e-3.
"""

from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from betanas.architecture.layers import Layer
from betanas.architecture.nasnet_cells import (
    AUXILIARY_CHANNELS,
    PREVIOUS,
    Step,
    SumCell,
    SumCellNetwork,
)

_EPSILON = 1e-3
_POOL, _POOL_STRIDE = 5, 3  # of the auxiliary head


def _norm(channels: int) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(channels, eps=_EPSILON)


def _conv(in_channels: int, out_channels: int, kernel_size: int = 1, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(in_channels, out_channels, kernel_size, stride, bias=False)


def _separable(in_channels: int, out_channels: int, size: int, stride: int) -> nn.Sequential:
    """A depthwise and a 1x1 convolution, and batch norm."""
    spatial = nn.Conv2d(
        in_channels, in_channels, size, stride, size // 2, groups=in_channels, bias=False
    )
    return nn.Sequential(spatial, _conv(in_channels, out_channels), _norm(out_channels))


class Halving(nn.Module):
    """Halves the side, ``b x in x r x r`` to ``b x out x r' x r'``, r' = r / 2 rounded up.

    Half of the channels come from each second pixel, the others from those one further down and
    right: a 1x1 convolution of stride 2 alone would not see three quarters of the input.
    """

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        second = out_channels // 2
        self.even = _conv(in_channels, out_channels - second, stride=2)
        self.odd = _conv(in_channels, second)
        self.norm = _norm(out_channels)

    def forward(self, x: Tensor) -> Tensor:
        """Both halves side by side."""
        shifted, odd = x[:, :, 1::2, 1::2], x.shape[-1] % 2
        if odd:
            shifted = functional.pad(shifted, (0, 1, 0, 1))
        return self.norm(torch.cat([self.even(x), self.odd(shifted)], dim=1))  # type: ignore[no-any-return]


def _step(step: Step, in_channels: int, channels: int, stride: int) -> nn.Module:
    """What a node applies; a separable convolution's first ReLU is the cell's business."""
    match step:
        case Step.IDENTITY:
            return nn.Identity()
        case Step.AVERAGE:
            return nn.AvgPool2d(3, stride, padding=1, count_include_pad=False)
        case Step.MAXIMUM:
            return nn.MaxPool2d(3, stride, padding=1)
        case _:
            size = step.kernel_size
            return nn.Sequential(
                _separable(in_channels, channels, size, stride),
                nn.ReLU(),
                _separable(channels, channels, size, 1),
            )


class SumCellModule(nn.Module):
    """One cell.

    Args:
        cell: What it consists of.
        layer: Its channels, sides and stride.
        previous: The layer before the one before; None for the first cell, which reads the current
            one in its place, as it is.
    """

    def __init__(self, cell: SumCell, layer: Layer, previous: Layer | None) -> None:
        super().__init__()
        channels, widths = layer.expanded_channels, [layer.expanded_channels, layer.in_channels]
        self.cell = cell
        self.current = nn.Sequential(_conv(layer.in_channels, channels), _norm(channels))
        self.rectify, self.rectify_output = nn.ReLU(), nn.ReLU(inplace=True)
        self.previous: nn.Module = nn.Identity()
        if previous is not None:
            widths[PREVIOUS] = channels
            same = previous.out_resolution == layer.in_resolution
            self.previous = (
                nn.Sequential(_conv(previous.out_channels, channels), _norm(channels))
                if same
                else Halving(previous.out_channels, channels)
            )
        self.steps = nn.ModuleList(
            nn.ModuleList(
                _step(step, widths[read], channels, layer.stride)
                if read <= PREVIOUS
                else _step(step, channels, channels, 1)
                for step, read in reads
            )
            for reads in cell.sums
        )

    def forward(self, current: Tensor, previous: Tensor) -> Tensor:
        """From what the two layers before have handed on, rectified, to what this one does."""
        nodes = [self.current(current), self.previous(previous)]
        # What comes in as it is has been rectified where it was made.
        as_it_is = isinstance(self.previous, nn.Identity)
        rectified: dict[int, Tensor] = {PREVIOUS: previous} if as_it_is else {}
        for reads, steps in zip(self.cell.sums, self.steps, strict=True):
            terms = []
            for (step, read), apply in zip(reads, cast("nn.ModuleList", steps), strict=True):
                if step.kernel_size and read not in rectified:
                    rectified[read] = self.rectify(nodes[read])
                terms.append(apply(rectified[read] if step.kernel_size else nodes[read]))
            nodes.append(terms[0] + terms[1])
        # All that read a layer begin with a ReLU: one for all of them.
        joined = torch.cat([nodes[i] for i in self.cell.output], dim=1)
        return self.rectify_output(joined)  # type: ignore[no-any-return]


class AuxiliaryHead(nn.Module):
    """Classifies what a layer in the middle has made, ``b x c x r x r`` to ``b x classes``."""

    def __init__(self, layer: Layer, num_classes: int) -> None:
        super().__init__()
        size = min(_POOL, layer.out_resolution)
        side = (layer.out_resolution - size) // _POOL_STRIDE + 1
        first, second = AUXILIARY_CHANNELS
        self.features = nn.Sequential(
            nn.AvgPool2d(size, _POOL_STRIDE),
            _conv(layer.out_channels, first),
            _norm(first),
            nn.ReLU(inplace=True),
            _conv(first, second, side),
            _norm(second),
            nn.ReLU(inplace=True),
        )
        self.classifier = nn.Linear(second, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        """Logits."""
        return self.classifier(self.features(x).flatten(1))  # type: ignore[no-any-return]


class NASNetModule(nn.Module):
    """A whole network: ``b x 3 x R x R`` images to ``b x num_classes`` logits.

    With an auxiliary head it returns that one's logits beside them, in training mode only.
    """

    def __init__(self, network: SumCellNetwork, num_classes: int, *, auxiliary: bool) -> None:
        super().__init__()
        layers = network.layers
        head = layers[0]
        self.head = nn.Sequential(
            _conv(head.in_channels, head.out_channels, 3, head.stride),
            _norm(head.out_channels),
            nn.ReLU(inplace=True),
        )
        self.cells = nn.ModuleList(
            SumCellModule(network.cell_of(i), layers[i], layers[i - 2] if i > 1 else None)
            for i in range(1, len(layers))
        )
        self.auxiliary_after = network.auxiliary_after
        self.auxiliary = (
            AuxiliaryHead(layers[self.auxiliary_after], num_classes) if auxiliary else None
        )
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.classifier = nn.Linear(layers[-1].out_channels, num_classes)

    def forward(self, x: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        """Classifies a batch of normalised images."""
        current = previous = self.head(x)
        second = None
        for place, cell in enumerate(self.cells, start=1):
            current, previous = cell(current, previous), current
            if place == self.auxiliary_after and self.auxiliary is not None and self.training:
                second = self.auxiliary(current)
        logits = self.classifier(self.pool(current).flatten(1))
        return logits if second is None else (logits, second)
