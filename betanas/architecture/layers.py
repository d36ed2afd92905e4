"""An architecture as data: one network in full, or a table of many for arithmetic on them.

Both hold the same facts. ``Architecture`` is what is printed, stored, compared and built;
``LayerTable`` is what decoding yields and counting reads, n networks at a time.
"""

import hashlib
import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, fields
from enum import IntEnum, StrEnum
from operator import attrgetter
from typing import Any, Self

import numpy as np

from betanas.arrays import BoolArray, FloatArray, IntArray

IMAGE_CHANNELS = 3
STOCHASTIC_DEPTH = 0.2  # of the last layer; linear from 0 at the first


class Block(StrEnum):
    """A layer's building block, under its published abbreviation."""

    CNA = "CNA"
    """Convolution, batch norm, activation."""
    FMBC = "FMBC"
    """Fused-MBConv: 3x3 expansion, 1x1 projection."""
    MBC = "MBC"
    """MBConv: 1x1 expansion, 3x3 depthwise, squeeze-excitation, 1x1 projection."""


class BlockCode(IntEnum):
    """``Block`` as a small integer for tables; 0 marks a layer that is not there."""

    NONE = 0
    CNA = 1
    FMBC = 2
    MBC = 3


@dataclass(frozen=True, slots=True)
class Layer:
    """One layer. Ratios are what the kernel asked for, channels what came of it.

    Two layers are equal when they build the same module: the ratios do not count.

    Attributes:
        block: Its building block.
        in_channels: Channels it reads.
        out_channels: Channels it writes.
        stride: 1, or 2 for a contraction.
        in_resolution: Input side in pixels.
        out_resolution: Output side in pixels.
        expanded_channels: ``int(in_channels * expansion_ratio)``; 0 for CNA.
        squeeze_channels: Squeeze-excitation bottleneck; 0 except for MBC.
        stochastic_depth: Probability of dropping the residual branch; 0 without a residual.
        expansion_ratio: Ratio of expanded to input channels.
        se_ratio: Ratio of expanded to squeezed channels.
    """

    block: Block
    in_channels: int
    out_channels: int
    stride: int
    in_resolution: int
    out_resolution: int
    expanded_channels: int
    squeeze_channels: int
    stochastic_depth: float
    expansion_ratio: float = field(compare=False)
    se_ratio: float = field(compare=False)

    @property
    def has_residual(self) -> bool:
        """Whether the input is added to the output (stride 1, equal channels, no CNA)."""
        return (
            self.block is not Block.CNA
            and self.stride == 1
            and self.in_channels == self.out_channels
        )


@dataclass(frozen=True, slots=True)
class Architecture:
    """A whole network as frozen data: comparable, hashable, printable, JSON round trip.

    Attributes:
        resolution: Input side in pixels; images have three channels.
        num_classes: Outputs of the last linear layer.
        latent_channels: Channels of the 1x1 convolution before global pooling.
        layers: Head first, at least one.
    """

    resolution: int
    num_classes: int
    latent_channels: int
    layers: tuple[Layer, ...]

    @property
    def fingerprint(self) -> str:
        """16 hexadecimal digits, equal exactly for equal architectures."""
        layers = [[getattr(y, f.name) for f in fields(Layer) if f.compare] for y in self.layers]
        shape = [self.resolution, self.num_classes, self.latent_channels, layers]
        return hashlib.sha256(json.dumps(shape).encode()).hexdigest()[:16]

    def to_json(self) -> dict[str, Any]:
        """Plain data for ``json.dumps``; ``from_json`` gives back an equal architecture."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Self:
        """Rebuilds what ``to_json`` wrote."""
        layers = tuple(Layer(**{**y, "block": Block(y["block"])}) for y in data["layers"])
        return cls(**{**data, "layers": layers})


@dataclass(frozen=True, slots=True)
class LayerTable:
    """n networks of up to N layers each; a trivial network has no layer at all.

    All arrays are ``n x N`` and 0 (False) past a network's depth, except where stated.

    Attributes:
        resolution: Input side in pixels, one for all.
        depth: Layers of each network, ``n``.
        latent_channels: Channels before global pooling, ``n``.
        block: ``BlockCode`` values.
        contracts: Whether the stride is 2.
        in_channels: Channels read.
        out_channels: Channels written.
        in_resolution: Input side in pixels.
        out_resolution: Output side in pixels.
        expanded_channels: As in ``Layer``.
        squeeze_channels: As in ``Layer``.
        expansion_ratio: As in ``Layer``.
        se_ratio: As in ``Layer``.
    """

    resolution: int
    depth: IntArray
    latent_channels: IntArray
    block: IntArray
    contracts: BoolArray
    in_channels: IntArray
    out_channels: IntArray
    in_resolution: IntArray
    out_resolution: IntArray
    expanded_channels: IntArray
    squeeze_channels: IntArray
    expansion_ratio: FloatArray
    se_ratio: FloatArray

    def architecture(self, row: int, num_classes: int) -> Architecture:
        """Writes one network out in full.

        Args:
            row: Which of the n.
            num_classes: Outputs of the last linear layer.
        """
        depth = int(self.depth[row])
        return Architecture(
            resolution=self.resolution,
            num_classes=num_classes,
            latent_channels=int(self.latent_channels[row]),
            layers=tuple(self._layer(row, i, depth) for i in range(depth)),
        )

    def _layer(self, row: int, i: int, depth: int) -> Layer:
        in_channels, out_channels = int(self.in_channels[row, i]), int(self.out_channels[row, i])
        contracts = bool(self.contracts[row, i])
        drops = i > 0 and not contracts and in_channels == out_channels
        return Layer(
            block=Block[BlockCode(int(self.block[row, i])).name],
            in_channels=in_channels,
            out_channels=out_channels,
            stride=2 if contracts else 1,
            in_resolution=int(self.in_resolution[row, i]),
            out_resolution=int(self.out_resolution[row, i]),
            expanded_channels=int(self.expanded_channels[row, i]),
            squeeze_channels=int(self.squeeze_channels[row, i]),
            stochastic_depth=STOCHASTIC_DEPTH * i / (depth - 1) if drops else 0.0,
            expansion_ratio=float(self.expansion_ratio[row, i]),
            se_ratio=float(self.se_ratio[row, i]),
        )

    @classmethod
    def of(cls, *architectures: Architecture) -> Self:
        """The table of n >= 1 networks of one resolution: counting reads tables only."""
        depth = np.array([len(a.layers) for a in architectures])
        present = np.arange(depth.max()) < depth[:, None]

        def column(read: Callable[[Layer], float]) -> FloatArray:
            """What is read of each layer, ``n x N``; the layers come row by row."""
            values = np.zeros(present.shape)
            values[present] = [read(y) for a in architectures for y in a.layers]
            return values

        def whole(name: str) -> IntArray:
            return column(attrgetter(name)).astype(np.int64)

        return cls(
            resolution=architectures[0].resolution,
            depth=depth,
            latent_channels=np.array([a.latent_channels for a in architectures]),
            block=column(lambda y: BlockCode[y.block.name]).astype(np.int64),
            contracts=whole("stride") == 2,
            in_channels=whole("in_channels"),
            out_channels=whole("out_channels"),
            in_resolution=whole("in_resolution"),
            out_resolution=whole("out_resolution"),
            expanded_channels=whole("expanded_channels"),
            squeeze_channels=whole("squeeze_channels"),
            expansion_ratio=column(attrgetter("expansion_ratio")),
            se_ratio=column(attrgetter("se_ratio")),
        )
