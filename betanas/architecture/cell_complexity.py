"""What networks of cells cost, counted from their description: ``complexity.py`` for ``CELL``."""

import numpy as np

from betanas.architecture.cells import CONV_1X1, CONV_3X3, EDGES, POOL, SKIP
from betanas.architecture.layers import Block, Layer
from betanas.arrays import IntArray


def count_cells(
    operations: IntArray, layers: tuple[Layer, ...], num_classes: int, batch_size: int
) -> tuple[IntArray, IntArray, IntArray]:
    """Counts n networks of the same layers, whose cells differ.

    All operations are computed, also those that the output does not depend on.

    Args:
        operations: Of the cells, places in ``OPERATIONS``, ``n x 6``.
        layers: As in ``CellNetwork``.
        num_classes: Outputs of the linear layer.
        batch_size: Images of one training step on one device.

    Returns:
        Trainable weights, multiply-adds of one image, and values that autograd keeps of one
        training step for the whole batch; ``n`` each.
    """
    weights = (operations == CONV_1X1).sum(axis=1) + 9 * (operations == CONV_3X3).sum(axis=1)
    convolutions = np.isin(operations, (CONV_1X1, CONV_3X3)).sum(axis=1)
    pooled = _pooled_tensors(operations)
    num_params, macs, saved, norms = (np.zeros(len(operations), dtype=np.int64) for _ in range(4))
    for y in layers:
        area, in_area = y.out_resolution**2, y.in_resolution**2
        both = y.in_channels * y.out_channels
        match y.block:
            case Block.CELL:
                own, channels = weights * both, convolutions * y.out_channels
                # Of a convolution its input, which a ReLU has made, and the norm's input.
                kept = 2 * channels + pooled * y.out_channels
                saved += kept * area
            case Block.CN:
                own, channels = 9 * both, y.out_channels
                saved += y.in_channels * in_area + y.out_channels * area
            case _:
                # Two 3x3 convolutions; average pooling and a 1x1 convolution beside them.
                own, channels = 9 * (both + y.out_channels**2) + both, 2 * y.out_channels
                saved += 2 * y.in_channels * in_area + (3 * y.out_channels + y.in_channels) * area
        num_params += own
        macs += own * area
        norms += 2 * channels
    last = layers[-1]
    norms += 2 * last.out_channels
    linear = last.out_channels * num_classes
    # The last norm keeps its input, the ReLU its result, the linear layer the pooled features.
    saved += (2 * last.out_resolution**2 + 1) * last.out_channels
    # A norm trains two values a channel, and keeps the mean and the deviation of the batch.
    return num_params + norms + linear + num_classes, macs + linear, batch_size * saved + norms


def _pooled_tensors(operations: IntArray) -> IntArray:
    """How many tensors average pooling reads, and keeps, in each of n cells, ``n``."""
    pools = [
        np.any([operations[:, i] == POOL for i, (a, _) in enumerate(EDGES) if a == node], axis=0)
        for node in range(3)
    ]
    same = operations[:, 0] == SKIP  # node 1 is the input itself then
    return np.asarray(1 * (pools[0] | (same & pools[1])) + (pools[1] & ~same) + pools[2])
