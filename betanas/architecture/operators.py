"""How long a network takes, added up from operators that a device has run once.

As in the latency tables of ProxylessNAS and FBNet (Cai et al., 2019; Wu et al., 2019), for training
steps as well as for answers: a network's time is the sum over its operators, and one that the table
has not lies between its neighbours, linear in logarithms of channels, side and seconds.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from betanas.architecture.layers import ACTIVATIONS, IMAGE_CHANNELS, BlockCode, LayerTable
from betanas.arrays import BoolArray, FloatArray, IntArray

if TYPE_CHECKING:
    from scipy.interpolate import RegularGridInterpolator

_RATIO = 4  # between neighbours in a grid, at most
_RARE = 0.02  # share of an operator's uses that no grid point is measured for


class Operator(StrEnum):
    """What is timed. Kernels are 3x3 unless they are named; ``-2`` is of stride 2."""

    STEM = "stem"
    """Convolution of the images, which need no gradient."""
    STEM_2 = "stem-2"
    CONV = "conv"
    CONV_2 = "conv-2"
    GROUPED = "grouped"
    """Grouped convolution; in place of output channels it has those of a group."""
    GROUPED_2 = "grouped-2"
    POINTWISE = "pointwise"
    """1x1 convolution."""
    DEPTHWISE_3 = "depthwise-3"
    DEPTHWISE_3_2 = "depthwise-3-2"
    DEPTHWISE_5 = "depthwise-5"
    DEPTHWISE_5_2 = "depthwise-5-2"
    NORM = "norm"
    """Batch norm with nothing behind it; below with an activation."""
    NORM_SILU = "norm-silu"
    NORM_RELU = "norm-relu"
    NORM_GELU = "norm-gelu"
    NORM_RELU6 = "norm-relu6"
    SILU = "silu"
    RELU = "relu"
    GELU = "gelu"
    RELU6 = "relu6"
    POOL = "pool"
    """2x2 max pooling."""
    ADD = "add"
    """Sum of two branches."""
    SQUEEZE = "squeeze"
    """Squeeze-excitation."""
    HEAD = "head"
    """Global pooling and the linear layer."""

    @property
    def has_outputs(self) -> bool:
        """Whether it has a second number of channels."""
        return self in _WITH_OUTPUTS

    @property
    def reads_images(self) -> bool:
        """Whether it reads the images, which need no gradient."""
        return self in (Operator.STEM, Operator.STEM_2)


_WITH_OUTPUTS = frozenset(
    (Operator.CONV, Operator.CONV_2, Operator.GROUPED, Operator.GROUPED_2, Operator.POINTWISE)
)


@dataclass(frozen=True, slots=True)
class Uses:
    """Where n networks have one operator, ``n x N`` each.

    Attributes:
        operator: Which.
        where: In which layers.
        channels: That it reads.
        outputs: That it writes; of a grouped convolution those of a group.
        side: In pixels, of what it writes.
    """

    operator: Operator
    where: BoolArray
    channels: IntArray
    outputs: IntArray
    side: IntArray

    def found(self) -> tuple[IntArray, IntArray]:
        """Whose they are, ``u``, and what a table is asked about, ``u x (2 or 3)``.

        That is channels, outputs where they are free, and side.
        """
        rows, layers = np.nonzero(self.where)
        axes = [self.channels, self.outputs, self.side]
        if not self.operator.has_outputs:
            axes.pop(1)
        shape = self.where.shape
        return rows, np.column_stack([np.broadcast_to(a, shape)[rows, layers] for a in axes])


@dataclass(frozen=True, eq=False)
class Grid:
    """Seconds an image of one operator.

    Attributes:
        axes: Channels, output channels where they are free, and sides: rising, two or more each.
        seconds: Over the axes.
    """

    axes: tuple[tuple[int, ...], ...]
    seconds: FloatArray

    def __call__(self, points: IntArray) -> FloatArray:
        """Seconds an image at points ``u x a``; beyond the grid by its edge's slope."""
        return np.asarray(np.exp(self._interpolator(np.log(points))))

    @cached_property
    def _interpolator(self) -> "RegularGridInterpolator":
        from scipy.interpolate import RegularGridInterpolator  # noqa: PLC0415 - --help needs none

        return RegularGridInterpolator(
            [np.log(axis) for axis in self.axes],
            np.log(self.seconds),
            bounds_error=False,
            fill_value=None,
        )

    @classmethod
    def of(
        cls, axes: tuple[tuple[int, ...], ...], measured: Mapping[tuple[int, ...], float]
    ) -> Self:
        """The grid from some of its points; what was not measured follows from a fit to them.

        Args:
            axes: As the attribute.
            measured: ``(channels, ..., side) -> seconds``.
        """
        places = np.array(np.meshgrid(*axes, indexing="ij")).reshape(len(axes), -1).T
        known = np.array([tuple(place) in measured for place in places.tolist()])
        logs = np.column_stack([np.ones(len(places)), np.log(places)])
        seconds = np.zeros(len(places))
        seconds[known] = [np.log(measured[tuple(p)]) for p in places[known].tolist()]
        # A ridge keeps the fit near "as much time as work" where the points do not tell.
        slopes = np.array([0.0, *np.ones(len(axes) - 1), 2.0])
        left = seconds[known] - logs[known] @ slopes
        gram = logs[known].T @ logs[known] + 0.01 * np.eye(len(slopes)) * (slopes > 0)
        slopes = slopes + np.linalg.solve(gram, logs[known].T @ left)
        seconds[~known] = logs[~known] @ slopes
        return cls(axes, np.exp(seconds).reshape([len(axis) for axis in axes]))


@dataclass(frozen=True, eq=False)
class OperatorTable:
    """What one device takes for each operator.

    Attributes:
        device: Its name and threads, for people.
        grids: Of each operator that was measured.
    """

    device: str
    grids: Mapping[Operator, Grid]

    def seconds(self, table: LayerTable) -> FloatArray:
        """As ``network_seconds``, of one table."""
        found = network_seconds(table, self)[0]
        assert found is not None  # noqa: S101 - there is a table
        return found

    def to_json(self) -> dict[str, Any]:
        """Plain data; ``from_json`` gives back an equal table, to four digits."""
        grids = {
            str(operator): {
                "axes": [list(axis) for axis in grid.axes],
                "seconds": [float(f"{s:.4g}") for s in grid.seconds.ravel()],
            }
            for operator, grid in self.grids.items()
        }
        return {"device": self.device, "grids": grids}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """Rebuilds what ``to_json`` wrote."""
        grids = {}
        for name, grid in data["grids"].items():
            axes = tuple(tuple(axis) for axis in grid["axes"])
            seconds = np.array(grid["seconds"]).reshape([len(axis) for axis in axes])
            grids[Operator(name)] = Grid(axes, seconds)
        return cls(data["device"], grids)


def network_seconds(
    table: LayerTable, *tables: OperatorTable | None
) -> tuple[FloatArray | None, ...]:
    """Seconds an image for each of n networks, ``n`` for each operator table.

    An operator that was not measured, as it was in none of the networks that told what to measure,
    counts nothing; nor does a trivial network.

    Args:
        table: The networks.
        tables: Operator tables; None for one that there is not.
    """
    number = len(table.depth)
    totals = [np.zeros(number) for _ in tables]
    for use in operators(table):
        rows, points = use.found()
        for known, total in zip(tables, totals, strict=True):
            if known is not None and use.operator in known.grids:
                seconds = known.grids[use.operator](points)
                np.add(total, np.bincount(rows, seconds, minlength=number), out=total)
    return tuple(None if t is None else s for t, s in zip(tables, totals, strict=True))


def layer_seconds(table: LayerTable, known: OperatorTable) -> FloatArray:
    """Seconds an image for each layer of n networks, ``n x N``; ``network_seconds`` is their sum.

    The last layer has the head's as well.

    Args:
        table: The networks.
        known: What the device takes for each operator; one that it lacks counts nothing.
    """
    total = np.zeros(table.block.shape)
    for use in operators(table):
        if use.operator in known.grids:
            _, points = use.found()
            total[use.where] += known.grids[use.operator](points)
    return total


def grid_axes(points: IntArray, doublings: int = 2) -> tuple[tuple[int, ...], ...]:
    """Axes of a grid that holds the points, ``u x a``, neighbours at most fourfold apart.

    Args:
        points: What the table is to be asked about.
        doublings: Of channels, between neighbours.
    """
    *channels, side = points.T
    return (*(_channels(column, doublings) for column in channels), _sides(side))


def corners(axes: Sequence[Sequence[int]], points: IntArray) -> list[tuple[int, ...]]:
    """The points of a grid between which most of some points, ``u x a``, lie."""
    found = np.zeros([len(axis) for axis in axes], dtype=np.bool_)
    places = [
        np.clip(np.searchsorted(axis, column, side="right") - 1, 0, len(axis) - 2)
        for axis, column in zip(axes, points.T, strict=True)
    ]
    cells, times = np.unique(places, axis=1, return_counts=True)
    cells = cells[:, times >= _RARE * len(points)]
    for corner in np.ndindex(*[2] * len(axes)):
        found[tuple(cells + np.array(corner)[:, None])] = True
    return [
        tuple(int(axis[i]) for axis, i in zip(axes, place, strict=True))
        for place in zip(*np.nonzero(found), strict=True)
    ]


def _channels(values: IntArray, doublings: int) -> tuple[int, ...]:
    """Powers of two around some channels, from 8: processors like them, and groups divide them."""
    low = max(3, int(np.log2(values.min())))
    high = max(low + 1, int(np.ceil(np.log2(values.max()))))
    return tuple(2**power for power in (*range(low, high, doublings), high))


def _sides(values: IntArray) -> tuple[int, ...]:
    """Sides around some others, evenly on a logarithmic scale."""
    low = int(values.min())
    high = max(2 * low, int(values.max()))
    number = 1 + int(np.ceil(np.log(high / low) / np.log(_RATIO) - 1e-9))
    return tuple(np.rint(np.geomspace(low, high, max(number, 2))).astype(np.int64).tolist())


def operators(table: LayerTable) -> list[Uses]:
    """The operators of n networks; one whose ``where`` is empty is in none of them."""
    if not table.block.shape[1]:
        return []
    parts = _Parts(table)
    return [
        use for use in (*parts.spatial(), *parts.mixing(), *parts.pointwise()) if use.where.any()
    ]


class _Parts:
    """The parts of each layer, as ``models/network.py`` builds them."""

    def __init__(self, table: LayerTable) -> None:
        self._table = table
        code, self._expanded = table.block, table.inner_channels
        self._cna, self._res, self._cnx, self._mbc, fused = (
            code == c
            for c in (BlockCode.CNA, BlockCode.RES, BlockCode.CNX, BlockCode.MBC, BlockCode.FMBC)
        )
        self._fused, self._single = fused & (self._expanded > 0), fused & (self._expanded == 0)
        self._expands = self._mbc & (table.expanded_channels > 0)
        self._inputs, self._outputs = table.in_channels, table.out_channels
        self._pools = table.filled("pools", 0) > 0
        self._strided = table.contracts & ~self._pools
        self._side = np.where(self._pools, table.in_resolution, table.out_resolution)
        same = ~table.contracts & (self._inputs == self._outputs)
        self._shortcut, self._adds = self._res & ~same, (code > BlockCode.CNA) & same
        self._adds |= self._shortcut
        self._last = np.arange(code.shape[1]) == table.depth[:, None] - 1
        self._latent = table.latent_channels[:, None]

    def spatial(self) -> list[Uses]:
        """Convolutions over neighbours."""
        table, found = self._table, []
        groups = np.maximum(table.filled("groups", 1), 1)
        grouped, stem = groups > 1, self._inputs == IMAGE_CHANNELS
        plain = self._cna | self._res | self._single
        between = np.rint(np.sqrt(self._inputs * self._outputs)).astype(np.int64)
        for where, (first, conv, several) in (
            (~self._strided, (Operator.STEM, Operator.CONV, Operator.GROUPED)),
            (self._strided, (Operator.STEM_2, Operator.CONV_2, Operator.GROUPED_2)),
        ):
            found += [
                self._use(first, plain & where & stem, self._outputs),
                self._use(conv, plain & where & ~stem & ~grouped, self._inputs, self._outputs),
                self._use(conv, self._fused & where, self._inputs, self._expanded),
                self._use(several, plain & where & grouped, between, self._outputs // groups),
            ]
        second = self._outputs // groups
        found += [
            self._use(Operator.CONV, self._res & ~grouped, self._outputs, self._outputs),
            self._use(Operator.GROUPED, self._res & grouped, self._outputs, second),
        ]
        window = table.filled("kernel_size", 3)
        for size, names in (
            (3, (Operator.DEPTHWISE_3, Operator.DEPTHWISE_3_2)),
            (5, (Operator.DEPTHWISE_5, Operator.DEPTHWISE_5_2)),
        ):
            for where, name in zip((~self._strided, self._strided), names, strict=True):
                own = where & (window == size)
                found.append(self._use(name, self._mbc & own, self._expanded))
                found.append(self._use(name, self._cnx & own, self._inputs))
        return found

    def mixing(self) -> list[Uses]:
        """Convolutions within a pixel."""
        before, latent = self._table.in_resolution, self._last & (self._latent > 0)
        place, wide = Operator.POINTWISE, self._fused | self._mbc | self._cnx
        return [
            self._use(place, self._shortcut, self._inputs, self._outputs),
            self._use(place, wide, self._expanded, self._outputs),
            self._use(place, self._expands, self._inputs, self._expanded, before),
            self._use(place, self._cnx, self._inputs, self._expanded),
            self._use(place, latent, self._outputs, self._latent, self._table.out_resolution),
        ]

    def pointwise(self) -> list[Uses]:
        """Norms, activations and what else is done for each value, and the head."""
        table, inner = self._table, self._fused | self._mbc
        before, after = table.in_resolution, table.out_resolution
        norm, squeezes = Operator.NORM, table.squeeze_channels > 0
        found = [
            self._use(norm, self._res | inner, self._outputs),
            self._use(norm, self._shortcut, self._outputs),
            self._use(norm, self._cnx, self._inputs),
            self._use(Operator.POOL, self._pools, self._outputs, side=after),
            self._use(Operator.ADD, self._adds, self._outputs),
            self._use(Operator.SQUEEZE, squeezes, self._expanded),
            self._use(
                Operator.HEAD,
                self._last,
                np.where(self._latent > 0, self._latent, self._outputs),
                side=after,
            ),
        ]
        kind = table.filled("activation", 0)
        # The latent convolution's activation is the last layer's.
        latent = self._last & (self._latent > 0)
        for code, activation in enumerate(ACTIVATIONS):
            own, bare = kind == code, Operator(str(activation))
            normed = Operator(f"norm-{activation}")
            first = self._cna | self._res | self._single
            found += [
                self._use(normed, own & first, self._outputs),
                self._use(normed, own & inner, self._expanded),
                self._use(normed, own & self._expands, self._expanded, side=before),
                self._use(normed, own & latent, self._latent, side=after),
                self._use(bare, own & self._res, self._outputs),
                self._use(bare, own & self._cnx, self._expanded),
            ]
        return found

    def _use(
        self,
        operator: Operator,
        where: BoolArray,
        channels: IntArray,
        outputs: IntArray | None = None,
        side: IntArray | None = None,
    ) -> Uses:
        return Uses(
            operator,
            where,
            channels,
            channels if outputs is None else outputs,
            self._side if side is None else side,
        )
