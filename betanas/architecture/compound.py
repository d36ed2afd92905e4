"""Compound scaling: any network deeper, wider and at a larger side, by three multipliers.

Source: Tan and Le, 2019, "EfficientNet: Rethinking Model Scaling for Convolutional Neural
Networks", equation 3; rounding as in the authors' ``round_filters`` and ``round_repeats``.
"""

from dataclasses import dataclass

import numpy as np

from betanas.architecture.layers import IMAGE_CHANNELS, Architecture, LayerTable
from betanas.arrays import FloatArray, IntArray

_STEP = 8  # channels come in multiples of it
_LEAST_SHARE = 0.9  # of the channels that rounding may leave


@dataclass(frozen=True, slots=True)
class Multipliers:
    """By how much n networks are larger than one, ``n`` each, all > 0.

    Attributes:
        depth: Of the layers of each stage.
        width: Of the channels.
        side: Their input sides in pixels, whole numbers.
    """

    depth: FloatArray
    width: FloatArray
    side: IntArray


def compound_table(base: Architecture, by: Multipliers) -> LayerTable:
    """Scales one network of layers n times; by 1, 1 and its own side it stays as it is.

    A stage is a run of layers of one block and kernel size from one contraction to the next; m of
    them become ``ceil(m * depth)``. The stem, the first layer, stays one. Added layers repeat those
    of their stage in order. Channels are rounded to multiples of 8, but never by more than 10 %
    down; the ratios of expansion and squeeze-excitation stay.

    Args:
        base: The network.
        by: The multipliers.
    """
    old = LayerTable.of(base)
    source, first, depth = _repeated(_stages(base), by.depth)
    present = np.arange(source.shape[1]) < depth[:, None]

    def spread(values: IntArray) -> IntArray:
        """The base network's values, ``1 x N``, at the new layers; 0 where there is none."""
        return np.where(present, values[0][source], 0)

    contracts = spread(1 * old.contracts) * first
    out_resolution = np.where(present, _sides(by.side, np.cumsum(contracts, axis=1)), 0)
    out_channels = spread(old.out_channels)
    out_channels = np.where(present, rounded(out_channels, by.width[:, None]), 0)
    in_channels = np.where(present, _before(out_channels, IMAGE_CHANNELS), 0)
    read = spread(old.in_channels)
    # Of a network that is not scaled every ratio is 1, and nothing is rounded.
    expanded = rounded(spread(old.expanded_channels), in_channels / np.maximum(read, 1))
    inner, was = np.where(expanded > 0, expanded, in_channels), spread(old.inner_channels)
    squeeze = spread(old.squeeze_channels)
    squeeze = np.where(squeeze > 0, np.maximum(1, inner * squeeze // np.maximum(was, 1)), 0)
    groups = np.gcd(spread(old.filled("groups", 1)), np.gcd(in_channels, out_channels))
    return LayerTable(
        resolution=base.resolution,
        depth=depth,
        latent_channels=rounded(np.full_like(depth, base.latent_channels), by.width),
        block=spread(old.block),
        contracts=contracts > 0,
        in_channels=in_channels,
        out_channels=out_channels,
        in_resolution=np.where(present, _before(out_resolution, by.side), 0),
        out_resolution=out_resolution,
        expanded_channels=expanded,
        squeeze_channels=squeeze,
        expansion_ratio=np.where(present, old.expansion_ratio[0][source], 0.0),
        se_ratio=np.where(present, old.se_ratio[0][source], 0.0),
        kernel_size=spread(old.filled("kernel_size", 3)),
        groups=np.where(present, groups, 0),
        activation=spread(old.filled("activation", 0)),
        pools=spread(old.filled("pools", 0)) * contracts > 0,
        drop=_last_drop(base),
    )


def rounded(channels: IntArray, by: FloatArray) -> IntArray:
    """Channels times a multiplier: the nearest multiple of 8, or the next one if 10 % would go.

    A multiplier of 1 leaves them as they are, and 0 stays 0.
    """
    wanted = channels * by
    nearest = np.maximum(_STEP, ((wanted + _STEP / 2) // _STEP).astype(np.int64) * _STEP)
    nearest += _STEP * (nearest < _LEAST_SHARE * wanted)
    return np.where((by == 1.0) | (channels == 0), channels, nearest)


def _stages(base: Architecture) -> list[int]:
    """Layers of each stage; the stem is one of its own."""
    lengths: list[int] = []
    before = None
    for i, layer in enumerate(base.layers):
        kind = layer.block, layer.kernel_size
        if i < 2 or layer.stride == 2 or kind != before:
            lengths.append(0)
        lengths[-1] += 1
        before = kind
    return lengths


def _repeated(lengths: list[int], by: FloatArray) -> tuple[IntArray, IntArray, IntArray]:
    """Which layer each new one repeats, whether it opens its stage, and how many there are.

    Returns:
        ``n x N``, ``n x N`` of 0 and 1, and ``n``.
    """
    each = np.array(lengths)
    made = np.maximum(np.ceil(each * by[:, None]), 1).astype(np.int64)  # by may have become 0
    made[:, 0] = each[0]
    ends = np.cumsum(made, axis=1)
    layer = np.arange(ends[:, -1].max())
    stage = np.minimum((layer[None, :, None] >= ends[:, None, :]).sum(axis=2), len(each) - 1)
    place = layer - np.take_along_axis(ends - made, stage, axis=1)
    within = place * each[stage] // np.take_along_axis(made, stage, axis=1)
    begins = np.cumsum(each) - each
    # Past a network's end nothing is read; the place must exist all the same.
    source = np.minimum(begins[stage] + within, begins[-1] + each[-1] - 1)
    return source, (place == 0).astype(np.int64), ends[:, -1]


def _sides(side: IntArray, halvings: IntArray) -> IntArray:
    """Sides after so many halvings ``r -> ceil(r / 2)``, ``n x N``: these are one division."""
    return -(-side[:, None] // 2**halvings)


def _before(values: IntArray, first: int | IntArray) -> IntArray:
    """Each row's values one layer later, ``first`` before them."""
    found = np.empty_like(values)
    found[:, 0] = first
    found[:, 1:] = values[:, :-1]
    return found


def _last_drop(base: Architecture) -> float:
    """Stochastic depth of the last layer, from any that has it."""
    last = len(base.layers) - 1
    found = [y.stochastic_depth * last / i for i, y in enumerate(base.layers) if y.stochastic_depth]
    return round(max(found, default=0.0), 9)
