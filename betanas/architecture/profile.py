"""What a person would say of an architecture, in a few numbers.

A kernel decides a network only through what it decodes to, and different kernels may decode to
nearly the same: a model that sees these numbers need not learn the decoding from accuracies.
"""

from collections.abc import Sequence

import numpy as np

from betanas.architecture.layers import Block, BlockCode, Layer, LayerTable
from betanas.arrays import FloatArray, IntArray

SHARES = (0.25, 0.5, 0.75, 1.0)  # of the depth, at which width and resolution are looked at
PROFILE = (
    "log_depth",
    "fused_share",
    *(f"log_{what}_{share:g}" for what in ("out_channels", "out_resolution") for share in SHARES),
)


def profile_table(table: LayerTable) -> FloatArray:
    """Describes n networks.

    Args:
        table: The networks; a trivial one is described as if it had one layer of width 1.

    Returns:
        ``n x 10``, in the order of ``PROFILE``: log depth; share of Fused-MBConv layers; at a
        quarter, half, three quarters and the end of the depth log channels, and log side in pixels.
    """
    if table.out_channels.shape[1] == 0:
        return np.zeros((len(table.depth), len(PROFILE)))
    fused = (table.block == BlockCode.FMBC).sum(axis=1)
    return _profile(table.depth, fused, table.out_channels, table.out_resolution)


def profile_chain(layers: Sequence[Layer]) -> FloatArray:
    """Describes one network of any blocks, at least one, as ``profile_table`` does: ``10``."""
    fused = np.array([sum(layer.block is Block.FMBC for layer in layers)])
    channels = np.array([[layer.out_channels for layer in layers]])
    sides = np.array([[layer.out_resolution for layer in layers]])
    return np.asarray(_profile(np.array([len(layers)]), fused, channels, sides)[0])


def _profile(
    layers: IntArray, fused: IntArray, out_channels: IntArray, out_resolution: IntArray
) -> FloatArray:
    """``n x 10`` from ``n``, ``n``, ``n x N`` and ``n x N``."""
    depth = np.maximum(layers, 1)
    columns = [np.log(depth), fused / depth]
    at = np.minimum((np.array(SHARES) * depth[:, None]).astype(np.int64), depth[:, None] - 1)
    for values in (out_channels, out_resolution):
        found = np.take_along_axis(values, at, axis=1)
        columns.extend(np.log(np.maximum(found, 1)).T)
    return np.column_stack(columns)
