"""MBConv: the space of one-shot searches, a MobileNetV2 whose every block is chosen.

The space of Single-Path NAS (Stamoulis et al., 2019, Table 1), which is ProxylessNAS's (Cai et al.,
2019) without 7x7 kernels: five stages of four inverted residual blocks (Sandler et al., 2018), each
with a 3x3 or 5x5 depthwise convolution and an expansion of 3 or 6, or no block at all. ReLU6, no
squeeze-excitation, no stochastic depth.
"""

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from betanas.architecture.betanet import TableFamily, shifted
from betanas.architecture.decoding import check_resolution
from betanas.architecture.layers import (
    ACTIVATIONS,
    IMAGE_CHANNELS,
    Activation,
    BlockCode,
    LayerTable,
)
from betanas.arrays import BoolArray, FloatArray, IntArray
from betanas.errors import InputError
from betanas.parameters import Choice, Integer, Parameter, Real

SKIP = "skip"
BLOCKS = ("3x3-3", "3x3-6", "5x5-3", "5x5-6")  # kernel size and expansion ratio
CHOICES = (*BLOCKS, SKIP)
STAGES, BLOCKS_A_STAGE = 5, 4
_KERNEL_SIZE = np.array([3, 3, 5, 5, 3])  # of each choice
_EXPANSION = np.array([3, 6, 3, 6, 1])
_STEM, _FIRST = 32, 16
_WIDTHS, _STRIDES = (24, 40, 80, 96, 192), (2, 2, 2, 1, 2)
_TAIL_EXPANSION = 6
_STEP = 8  # channels come in multiples of it


def block_name(stage: int, block: int) -> str:
    """The parameter of one block, both counted from 0.

    >>> block_name(0, 3)
    's1b4'
    """
    return f"s{stage + 1}b{block + 1}"


def _blocks() -> tuple[Choice, ...]:
    """A choice for each block; the first of a stage changes the shape and has to be there."""
    return tuple(
        Choice(
            block_name(stage, block),
            CHOICES if block else BLOCKS,
            meaning=f"block {block + 1} of stage {stage + 1}: kernel size and expansion",
        )
        for stage in range(STAGES)
        for block in range(BLOCKS_A_STAGE)
    )


_SHAPE: tuple[Parameter, ...] = (
    Integer("stem", 2, 2, (1, 2), "stride of the first convolution"),
    Integer("stages", STAGES, STAGES, (1, STAGES), "stages of 24, 40, 80, 96 and 192 channels"),
    Integer("blocks", BLOCKS_A_STAGE, BLOCKS_A_STAGE, (1, BLOCKS_A_STAGE), "blocks of a stage"),
    Real("width", 1, 1, (0.1, 4), "factor of all channels but the head's"),
    Integer("tail", 320, 320, (8, 4096), "channels of the fixed block at the end"),
    Integer("head", 1280, 1280, (8, 8192), "channels before global pooling"),
)
_PUBLISHED: dict[str, float | str] = {
    "stem": 2, "stages": STAGES, "blocks": BLOCKS_A_STAGE, "width": 1.0, "tail": 320, "head": 1280,
}  # fmt: skip


class MBConv(TableFamily):
    """The family ``mbconv``.

    Attributes:
        shape: The parameters that are no blocks.
    """

    name = "mbconv"
    width_parameter = "width"
    shape = _SHAPE
    parameters = (*_SHAPE, *_blocks())
    members: ClassVar = {
        f"mbconv-{choice}": _PUBLISHED | {p.name: choice for p in _blocks()}
        for choice in ("5x5-6", "3x3-3")
    }

    def settled(self, ranges: Mapping[str, tuple[Any, ...]]) -> dict[str, tuple[Any, ...]]:
        """Fixes the blocks that no network of these ranges has."""
        most = {name: int(ranges[name][1]) for name in ("stages", "blocks")}
        there = {
            block_name(stage, block)
            for stage in range(most["stages"])
            for block in range(most["blocks"])
        }
        idle = {p.name for p in _blocks()} - there
        return {name: found[:1] if name in idle else found for name, found in ranges.items()}

    def table(self, kernels: npt.ArrayLike, resolution: int) -> LayerTable:
        """Decodes n kernels at once; none is trivial."""
        check_resolution(resolution)
        x = np.asarray(kernels, dtype=np.float64)
        if x.ndim != 2 or x.shape[1] != len(self.names):
            raise InputError(f"kernels must have shape n x {len(self.names)}, but got {x.shape}")
        shape = {p.name: x[:, [i]] for i, p in enumerate(_SHAPE)}
        choice = x[:, len(_SHAPE) :].astype(np.int64)

        # All places first, n x 23: stem, fixed block, twenty blocks, fixed block. Then those that
        # are empty are left out; what a block reads does not depend on them.
        kept = _kept(choice, shape)
        order = np.argsort(~kept, axis=1, kind="stable")[:, : int(kept.sum(axis=1).max(initial=0))]

        def there(values: IntArray) -> IntArray:
            return np.take_along_axis(np.where(kept, values, 0), order, axis=1)

        around = np.ones((len(x), 1), dtype=np.int64)
        present = there(np.ones_like(kept, dtype=np.int64)) > 0
        strides = np.ones(kept.shape, dtype=np.int64)
        strides[:, :1] = shape["stem"].astype(np.int64)
        strides[:, 2:-1:BLOCKS_A_STAGE] = _STRIDES
        contracts = there(strides) == 2
        ratio = there(
            np.concatenate(
                [0 * around, around, _EXPANSION[choice], _TAIL_EXPANSION * around], axis=1
            )
        )
        out_channels = there(_widths(shape))
        in_channels = np.where(present, shifted(out_channels, IMAGE_CHANNELS), 0)
        sides = [resolution]
        while len(sides) <= len(_STRIDES) + 1:
            sides.append(-(-sides[-1] // 2))
        out_resolution = np.array(sides)[np.cumsum(contracts, axis=1)]
        stem = np.arange(present.shape[1]) == 0
        code = np.where(stem, BlockCode.CNA, BlockCode.MBC)
        threes = 3 * around
        return LayerTable(
            resolution=resolution,
            depth=kept.sum(axis=1),
            latent_channels=shape["head"][:, 0].astype(np.int64),
            block=np.where(present, code, BlockCode.NONE),
            contracts=contracts,
            in_channels=in_channels,
            out_channels=out_channels,
            in_resolution=np.where(present, shifted(out_resolution, resolution), 0),
            out_resolution=np.where(present, out_resolution, 0),
            # A ratio of 1 needs no expansion, as in MobileNetV2.
            expanded_channels=np.where(ratio > 1, in_channels * ratio, 0),
            squeeze_channels=np.zeros_like(in_channels),
            expansion_ratio=np.where(present, np.maximum(ratio, 1), 0).astype(np.float64),
            se_ratio=np.zeros(present.shape),
            kernel_size=there(
                np.concatenate([threes, threes, _KERNEL_SIZE[choice], threes], axis=1)
            ),
            activation=np.full(present.shape, ACTIVATIONS.index(Activation.RELU6)),
            drop=0.0,
        )


def _kept(choice: IntArray, shape: Mapping[str, FloatArray]) -> BoolArray:
    """Which of the places hold a block, ``n x 23``."""
    stage, block = np.divmod(np.arange(STAGES * BLOCKS_A_STAGE), BLOCKS_A_STAGE)
    chosen = (choice < len(BLOCKS)) & (stage < shape["stages"]) & (block < shape["blocks"])
    fixed = np.ones((len(choice), 1), dtype=np.bool_)
    return np.concatenate([fixed, fixed, chosen, fixed], axis=1)


def _widths(shape: Mapping[str, FloatArray]) -> IntArray:
    """Channels that each place writes, ``n x 23``."""
    base = np.array([_STEM, _FIRST, *np.repeat(_WIDTHS, BLOCKS_A_STAGE)], dtype=np.float64)
    asked = shape["width"] * np.concatenate(
        [np.broadcast_to(base, (len(shape["tail"]), len(base))), shape["tail"]], axis=1
    )
    # As MobileNetV2 rounds: the nearest multiple, but not more than a tenth below.
    rounded = np.maximum(_STEP, _STEP * np.floor(asked / _STEP + 0.5))
    return np.asarray(np.where(rounded < 0.9 * asked, rounded + _STEP, rounded), dtype=np.int64)


MBCONV = MBConv()
