"""NAS-Bench-201's topology space: which operation is on each of a cell's six edges.

Others have trained all 15,625 cells, so that searches can be tried on real accuracies without any
training (the objective ``table``). Dong and Yang, 2020, "NAS-Bench-201: Extending the Scope of
Reproducible Neural Architecture Search", section 2.1.
"""

from functools import lru_cache
from typing import ClassVar

import numpy as np

from betanas.architecture.cell_complexity import count_cells
from betanas.architecture.cells import (
    CONV_1X1,
    CONV_3X3,
    EDGES,
    OPERATIONS,
    PATHS,
    POOL,
    SKIP,
    Cell,
    CellNetwork,
    Operation,
    live_edges,
)
from betanas.architecture.complexity import FLOAT_BYTES, Complexities
from betanas.architecture.family import Family, Kernel, Survey
from betanas.architecture.layers import IMAGE_CHANNELS, Activation, Block, Layer
from betanas.arrays import FloatArray, IntArray
from betanas.parameters import Choice

CHANNELS = (16, 32, 64)  # of the stages
CELLS = 5  # in each


def kernel_of_cell(cell: Cell) -> dict[str, str]:
    """The kernel that decodes to a cell."""
    return {f"op{i}": str(operation) for i, operation in enumerate(cell.operations)}


def _member(text: str) -> dict[str, str]:
    return kernel_of_cell(Cell.parse(text))


class NASBench201(Family):
    """The family ``nasbench201``; no cell is trivial, though 341 of them do not see their input."""

    name = "nasbench201"
    parameters = tuple(
        Choice(
            f"op{i}",
            tuple(map(str, OPERATIONS)),
            meaning=f"from node {source} to node {target}",
        )
        for i, (source, target) in enumerate(EDGES)
    )
    members: ClassVar = {
        # Of the highest mean validation accuracy on CIFAR-10 after 200 epochs, 91.607 %.
        "nasbench201-best": _member(
            "|nor_conv_3x3~0|+|nor_conv_3x3~0|nor_conv_3x3~1|"
            "+|skip_connect~0|nor_conv_3x3~1|nor_conv_1x1~2|"
        ),
        # Two convolutions and a residual connection, as in ResNet (the paper's section 4).
        "nasbench201-resnet": _member(
            "|nor_conv_3x3~0|+|none~0|nor_conv_3x3~1|+|skip_connect~0|none~1|skip_connect~2|"
        ),
    }
    published_for: ClassVar = (32, 10)

    def decode(self, parameters: Kernel, resolution: int, num_classes: int) -> CellNetwork:
        """Decodes one kernel; nothing in it depends on the resolution but the sides."""
        cell = Cell(tuple(Operation(parameters[name]) for name in self.names))
        return CellNetwork(resolution, num_classes, 0, skeleton(resolution), cell)

    has_layers: ClassVar[bool] = False

    def survey(
        self, kernels: FloatArray, resolution: int, num_classes: int, batch_size: int
    ) -> Survey:
        """Describes n cells at once.

        The features, ``n x 7``, are of what the output depends on: how many edges skip, convolve
        and pool, how many paths there are, and the most and fewest convolutions on one of them.
        """
        operations = kernels.astype(np.int64)
        num_params, macs, saved = count_cells(
            operations, skeleton(resolution), num_classes, batch_size
        )
        costs = Complexities(num_params, macs, FLOAT_BYTES * saved)
        return Survey(np.zeros(len(kernels), dtype=np.bool_), costs, _features(operations))


@lru_cache(maxsize=64)
def skeleton(resolution: int) -> tuple[Layer, ...]:
    """The layers of all of the space's networks at one input side."""
    layers, side = [_layer(Block.CN, IMAGE_CHANNELS, CHANNELS[0], resolution)], resolution
    for before, channels in zip((CHANNELS[0], *CHANNELS), CHANNELS, strict=False):
        if channels != before:
            layers.append(_layer(Block.RED, before, channels, side, stride=2))
            side = layers[-1].out_resolution
        layers += CELLS * [_layer(Block.CELL, channels, channels, side)]
    return tuple(layers)


def _layer(block: Block, in_channels: int, out_channels: int, side: int, stride: int = 1) -> Layer:
    return Layer(
        block=block,
        in_channels=in_channels,
        out_channels=out_channels,
        stride=stride,
        in_resolution=side,
        out_resolution=-(-side // stride),
        expanded_channels=0,
        squeeze_channels=0,
        stochastic_depth=0.0,
        expansion_ratio=1.0,
        se_ratio=0.0,
        activation=Activation.RELU,
    )


def _features(operations: IntArray) -> FloatArray:
    """What decides most of a cell's accuracy, ``n x 7``; see ``survey``."""
    live, paths = live_edges(operations)
    kinds = [(live & (operations == kind)).sum(axis=1) for kind in (SKIP, CONV_1X1, CONV_3X3, POOL)]
    convolves = np.isin(operations, (CONV_1X1, CONV_3X3))
    depths = np.stack([convolves[:, path].sum(axis=1) for path in PATHS], axis=1)
    deepest = np.where(paths, depths, 0).max(axis=1)
    shallowest = np.where(paths, depths, len(PATHS)).min(axis=1)
    features = np.column_stack([*kinds, paths.sum(axis=1), deepest, shallowest])
    return features.astype(np.float64)


NASBENCH201 = NASBench201()
