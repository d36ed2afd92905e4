"""What a person would say of an architecture, in a few numbers.

A kernel decides a network only through what it decodes to, and different kernels may decode to
nearly the same: a model that sees these numbers need not learn the decoding from accuracies.
"""

import numpy as np

from betanas.architecture.layers import BlockCode, LayerTable
from betanas.arrays import FloatArray

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
    number, most = table.out_channels.shape
    if most == 0:
        return np.zeros((number, len(PROFILE)))
    depth = np.maximum(table.depth, 1)
    columns = [np.log(depth), (table.block == BlockCode.FMBC).sum(axis=1) / depth]
    at = np.minimum((np.array(SHARES) * depth[:, None]).astype(np.int64), depth[:, None] - 1)
    for values in (table.out_channels, table.out_resolution):
        found = np.take_along_axis(values, at, axis=1)
        columns.extend(np.log(np.maximum(found, 1)).T)
    return np.column_stack(columns)
