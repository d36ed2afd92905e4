"""An architecture as data: one network in full, or a table of many for arithmetic on them.

Both hold the same facts. ``Architecture`` is what is printed, stored, compared and built;
``LayerTable`` is what decoding yields and counting reads, n networks at a time.
"""

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import MISSING, asdict, dataclass, field, fields, replace
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
    """MBConv: 1x1 expansion, depthwise, squeeze-excitation, 1x1 projection."""
    RES = "RES"
    """ResNet's basic block: two convolutions, and the input added before the last activation."""
    CNX = "CNX"
    """ConvNeXt's block with a batch norm: depthwise, 1x1 expansion, activation, 1x1 projection."""
    CN = "CN"
    """Convolution, batch norm: before cells."""
    CELL = "CELL"
    """A graph of operations (``cells.py``)."""
    RED = "RED"
    """Reduction between cells: ResNet's basic block of stride 2 with each ReLU before its
    convolution, average pooling and a 1x1 convolution beside it."""
    NORMAL = "NORMAL"
    """A cell of NASNet's kind that keeps the side (``nasnet_cells.py``)."""
    REDUCTION = "REDUCTION"
    """One that halves it."""


class Activation(StrEnum):
    """What follows a norm."""

    SILU = "silu"
    RELU = "relu"
    GELU = "gelu"
    RELU6 = "relu6"


class BlockCode(IntEnum):
    """``Block`` as a small integer for tables; 0 marks a layer that is not there."""

    NONE = 0
    CNA = 1
    FMBC = 2
    MBC = 3
    RES = 4
    CNX = 5


ACTIVATIONS = tuple(Activation)  # their codes in tables are their places


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
        expanded_channels: Channels between expansion and projection; 0 for CNA and RES, for a
            Fused-MBConv of ratio 1, which is one convolution, and for an MBConv without expansion.
        squeeze_channels: Squeeze-excitation bottleneck; 0 for none.
        stochastic_depth: Probability of dropping the residual branch; 0 without a residual.
        expansion_ratio: Ratio of expanded to input channels.
        se_ratio: Ratio of expanded to squeezed channels.
        kernel_size: Of the spatial convolutions, odd.
        groups: Of a CNA's or RES's convolutions.
        activation: After the norms.
        pools: Whether a contraction is 2x2 max pooling after the block, not a stride.
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
    kernel_size: int = 3
    groups: int = 1
    activation: Activation = Activation.SILU
    pools: bool = False

    @property
    def inner_channels(self) -> int:
        """Channels that an MBConv's depthwise convolution and squeeze-excitation work on."""
        return self.expanded_channels or self.in_channels

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
        latent_channels: Channels of the 1x1 convolution before global pooling; 0 for none.
        layers: Head first, at least one.
    """

    resolution: int
    num_classes: int
    latent_channels: int
    layers: tuple[Layer, ...]

    @property
    def fingerprint(self) -> str:
        """16 hexadecimal digits, equal exactly for equal architectures."""
        compared = [f for f in fields(Layer) if f.compare]
        first = [f.name for f in compared if f.default is MISSING]
        # What came later counts where it says something: fingerprints stay as they were.
        later = {f.name: f.default for f in compared if f.default is not MISSING}
        layers = [
            [getattr(y, name) for name in first]
            + [[n, getattr(y, n)] for n, default in later.items() if getattr(y, n) != default]
            for y in self.layers
        ]
        return self._digest([self.resolution, self.num_classes, self.latent_channels, layers])

    @staticmethod
    def _digest(shape: list[Any]) -> str:
        return hashlib.sha256(json.dumps(shape).encode()).hexdigest()[:16]

    def to_json(self) -> dict[str, Any]:
        """Plain data for ``json.dumps``; ``from_json`` gives back an equal architecture."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Self:
        """Rebuilds what ``to_json`` wrote."""
        layers = tuple(
            Layer(
                **{
                    **y,
                    "block": Block(y["block"]),
                    "activation": Activation(y.get("activation", "silu")),
                }
            )
            for y in data["layers"]
        )
        return cls(**{**data, "layers": layers})


@dataclass(frozen=True, slots=True)
class LayerTable:
    """n networks of up to N layers each; a trivial network has no layer at all.

    All arrays are ``n x N`` and 0 (False) past a network's depth, except where stated.

    Attributes:
        resolution: Input side in pixels that the kernels were decoded at.
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
        kernel_size: As in ``Layer``, in all of ``n x N``; None for 3 everywhere.
        groups: Likewise; None for 1.
        activation: Places in ``ACTIVATIONS``; None for SiLU everywhere.
        pools: As in ``Layer``; None for nowhere.
        drop: Stochastic depth of the last layer; linear from 0 at the first.
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
    kernel_size: IntArray | None = None
    groups: IntArray | None = None
    activation: IntArray | None = None
    pools: BoolArray | None = None
    drop: float = STOCHASTIC_DEPTH

    def filled(self, name: str, default: int) -> IntArray:
        """One of the arrays that may be None, written out."""
        values: IntArray | None = getattr(self, name)
        return np.full_like(self.block, default) if values is None else values

    @property
    def inner_channels(self) -> IntArray:
        """``expanded_channels``, but of an MBConv without expansion those that it reads."""
        bare = (self.block == BlockCode.MBC) & (self.expanded_channels == 0)
        return np.where(bare, self.in_channels, self.expanded_channels)

    def spread(self, rows: Sequence[int], number: int) -> Self:
        """The table of so many networks, of which these are the given rows; the rest is trivial."""
        found: dict[str, Any] = {}
        for name in self.__slots__:
            value = getattr(self, name)
            if isinstance(value, np.ndarray):
                found[name] = np.zeros((number, *value.shape[1:]), dtype=value.dtype)
                found[name][rows] = value
        return replace(self, **found)

    def architecture(self, row: int, num_classes: int) -> Architecture:
        """Writes one network out in full.

        Args:
            row: Which of the n.
            num_classes: Outputs of the last linear layer.
        """
        depth = int(self.depth[row])
        return Architecture(
            # Its own, where a family's networks differ in that.
            resolution=int(self.in_resolution[row, 0]) if depth else self.resolution,
            num_classes=num_classes,
            latent_channels=int(self.latent_channels[row]),
            layers=tuple(self._layer(row, i, depth) for i in range(depth)),
        )

    def _at(self, name: str, row: int, i: int, default: int) -> int:
        """A value of one of the arrays that may be None."""
        values: IntArray | None = getattr(self, name)
        return default if values is None else int(values[row, i])

    def _layer(self, row: int, i: int, depth: int) -> Layer:
        in_channels, out_channels = int(self.in_channels[row, i]), int(self.out_channels[row, i])
        contracts = bool(self.contracts[row, i])
        block = Block[BlockCode(int(self.block[row, i])).name]
        drops = block is not Block.CNA and not contracts and in_channels == out_channels
        return Layer(
            block=block,
            in_channels=in_channels,
            out_channels=out_channels,
            stride=2 if contracts else 1,
            in_resolution=int(self.in_resolution[row, i]),
            out_resolution=int(self.out_resolution[row, i]),
            expanded_channels=int(self.expanded_channels[row, i]),
            squeeze_channels=int(self.squeeze_channels[row, i]),
            stochastic_depth=self.drop * i / (depth - 1) if drops else 0.0,
            expansion_ratio=float(self.expansion_ratio[row, i]),
            se_ratio=float(self.se_ratio[row, i]),
            kernel_size=self._at("kernel_size", row, i, 3),
            groups=self._at("groups", row, i, 1),
            activation=ACTIVATIONS[self._at("activation", row, i, 0)],
            pools=bool(self._at("pools", row, i, 0)),
        )

    @classmethod
    def of(cls, *architectures: Architecture) -> Self:
        """The table of n >= 1 networks: counting reads tables only."""
        depth = np.array([len(a.layers) for a in architectures])
        present = np.arange(depth.max()) < depth[:, None]

        def column(read: Callable[[Layer], float]) -> FloatArray:
            """What is read of each layer, ``n x N``; the layers come row by row."""
            values = np.zeros(present.shape)
            values[present] = [read(y) for a in architectures for y in a.layers]
            return values

        def whole(name: str) -> IntArray:
            return column(attrgetter(name)).astype(np.int64)

        def unless(default: int, values: IntArray) -> IntArray | None:
            return None if np.all(values[present] == default) else values

        any_pools = any(y.pools for a in architectures for y in a.layers)

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
            kernel_size=unless(3, whole("kernel_size")),
            groups=unless(1, whole("groups")),
            activation=unless(
                0, column(lambda y: ACTIVATIONS.index(y.activation)).astype(np.int64)
            ),
            pools=column(lambda y: y.pools).astype(np.bool_) if any_pools else None,
        )
