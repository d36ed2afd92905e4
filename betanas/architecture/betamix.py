"""BetaMix: BetaNet2's curves over blocks that BetaNet lacks, for small pictures and budgets.

The Beta distributions that place the contractions and shape the widths are BetaNet2's; what BetaNet
fixes is searched: the kind of block early and late in the network, expansion from 1, squeeze-
excitation, kernel size and group width, the activation, how it contracts, stem and head. Published
networks that lie in it are members. What cannot be expressed: blocks that change in mid-stage more
than once, bottlenecks (ResNet-50), widths that grow inside a stage (MobileNetV2, EfficientNetV2).

Blocks: ResNet (He et al., 2016), EfficientNetV2 (Tan and Le, 2021), ConvNeXt (Liu et al., 2022).
"""

from typing import ClassVar

import numpy as np
import numpy.typing as npt

from betanas.architecture.beta import beta_cdf
from betanas.architecture.betanet import (
    TableFamily,
    between,
    count_contractions,
    place_contractions,
    shifted,
)
from betanas.architecture.decoding import check_resolution
from betanas.architecture.layers import ACTIVATIONS, IMAGE_CHANNELS, BlockCode, LayerTable
from betanas.arrays import BoolArray, FloatArray, IntArray
from betanas.errors import InputError
from betanas.parameters import Choice, Integer, Real

KINDS = ("conv", "residual", "fused", "mbconv", "convnext")
_CODES = np.array(
    [BlockCode.CNA, BlockCode.RES, BlockCode.FMBC, BlockCode.MBC, BlockCode.CNX], dtype=np.int64
)
_SINGLE_BELOW = 1.25  # expansion ratio of a Fused-MBConv that is one convolution
_STEP = 8  # channels come in multiples of it, which processors like


# Six 3x3 convolutions of 16, 32, 32, 64, 64, 64 channels at R=32; the 1st, 3rd and 5th contract.
_PLAIN: dict[str, float | str] = {
    "k": 2.5, "K": 2.0, "Da": 0.0, "Db": 0.0, "stem": 2, "Wa": 0.161, "Wb": -0.148,
    "growth": "before", "W0": 0.125, "G0": 2.0, "early": "conv", "late": "conv", "B": 1.0,
    "E0": 1.0, "E1": 1.0, "se": "none", "S": 8.0, "kernel": "3", "group": "all",
    "activation": "relu", "contraction": "stride", "head": "pooled", "G1": 1.0,
}  # fmt: skip
# ResNet-20 (He et al., 2016, section 4.2) with projections where shapes differ.
_RESNET = _PLAIN | {
    "k": 3.5, "K": 5.0, "stem": 1, "Wa": 0.2, "Wb": 0.0, "growth": "with", "W0": 0.25,
    "early": "residual", "late": "residual",
}  # fmt: skip
# Pairs of a convolution, pooling and a convolution, as in K. Jordan's record on CIFAR-10 (2024).
_AIRBENCH = _PLAIN | {
    "K": 2.35, "Da": -0.3, "Db": -0.2, "stem": 1, "Wa": 0.75, "Wb": 0.75, "growth": "with",
    "activation": "gelu", "contraction": "pool",
}  # fmt: skip


class BetaMix(TableFamily):
    """The family ``betamix``."""

    name = "betamix"
    width_parameter = "G0"
    parameters = (
        Real("k", 1, 5, (1, 12), "log2 of the bound on the final resolution (exclusive)"),
        Real("K", 1, 5, (1, 16), "layers per contraction"),
        Real("Da", -0.5, 0.5, (-2, 2), "log10 of the first Beta parameter, contractions"),
        Real("Db", -0.5, 0.5, (-2, 2), "log10 of the second Beta parameter, contractions"),
        Integer("stem", 1, 2, (1, 2), "stride of the first convolution"),
        Real("Wa", -0.75, 0.75, (-2, 2), "log10 of the first Beta parameter, widths"),
        Real("Wb", -0.75, 0.75, (-2, 2), "log10 of the second Beta parameter, widths"),
        Choice("growth", ("with", "before"), meaning="which layer widens, seen from a contraction"),
        Real("W0", 0.05, 1, (0.01, 1), "first width as a share of the final one"),
        Real("G0", 0.5, 16, (0.1, 64), "final width in channels per pixel of resolution", log=True),
        Choice("early", KINDS, meaning="block before depth B"),
        Choice("late", KINDS, meaning="block from depth B on"),
        Real("B", 0, 1, (0, 1), "depth at which early blocks give way to late ones"),
        Real("E0", 1, 6, (1, 16), "expansion ratio of the first layer"),
        Real("E1", 1, 6, (1, 16), "expansion ratio of the last layer"),
        Choice(
            "se",
            ("none", "late", "all"),
            meaning="where there is squeeze-excitation",
        ),
        Real("S", 4, 24, (1, 256), "squeeze-excitation ratio"),
        Choice("kernel", ("3", "5"), meaning="size of depthwise convolutions"),
        Choice("group", ("all", "16", "32"), meaning="channels of a convolution's groups"),
        Choice("activation", ("relu", "silu", "gelu"), meaning="what follows a norm"),
        Choice("contraction", ("stride", "pool"), meaning="how the resolution falls"),
        Choice("head", ("pooled", "latent"), meaning="what comes before the linear layer"),
        Real("G1", 0.5, 3, (0.1, 16), "latent size per channel of the final width"),
    )
    members: ClassVar = {
        "plain": _PLAIN,
        "plain-wide": _PLAIN | {"G0": 4.0},
        "resnet20": _RESNET,
        "resnet20-narrow": _RESNET | {"G0": 1.0},
        "resnet18-3x3": _RESNET | {
            "k": 2.5, "K": 3.0, "Wa": 0.161, "Wb": -0.148, "W0": 0.125, "G0": 16.0,
        },
        "airbench": _AIRBENCH | {"W0": 0.5, "G0": 1.5},
        "airbench-wide": _AIRBENCH | {"W0": 0.25, "G0": 8.0},
    }  # fmt: skip

    def table(self, kernels: npt.ArrayLike, resolution: int) -> LayerTable:
        """Decodes n kernels at once; trivial ones become rows of depth 0."""
        check_resolution(resolution)
        x = np.asarray(kernels, dtype=np.float64)
        if x.ndim != 2 or x.shape[1] != len(self.names):
            raise InputError(f"kernels must have shape n x {len(self.names)}, but got {x.shape}")

        def parameter(name: str) -> FloatArray:
            return x[:, [self.names.index(name)]]

        def chosen(name: str) -> IntArray:
            return parameter(name).astype(np.int64)

        halvings, sides = count_contractions(parameter("k")[:, 0], resolution)
        # A stem of stride 1 is a layer that contracts nothing: one more than the halvings.
        strided = chosen("stem")[:, 0] == 2
        marks = np.where(halvings > 0, halvings + ~strided, 0)
        depth = np.maximum((parameter("K")[:, 0] * halvings).astype(np.int64), marks)
        contracts = place_contractions(depth, marks, parameter("Da"), parameter("Db"))
        contracts[:, :1] &= strided[:, None]
        layer = np.arange(contracts.shape[1])
        present = layer < depth[:, None]
        behind = np.cumsum(contracts, axis=1)
        out_resolution = np.where(present, sides[behind], 1)
        in_resolution = np.where(present, shifted(out_resolution, resolution), 0)

        # What is "before" has its stage's width already in the layer before the contraction.
        ahead = np.concatenate([behind[:, 1:], behind[:, -1:]], axis=1)
        level = np.where(chosen("growth") == 1, np.minimum(ahead, halvings[:, None]), behind)
        share = level / np.maximum(halvings, 1)[:, None]
        u = beta_cdf(share, parameter("Wa"), parameter("Wb"))
        final, least = parameter("G0") * resolution, parameter("W0")
        out_channels = np.where(present, _rounded(final * (least + (1 - least) * u)), 0)
        in_channels = np.where(present, shifted(out_channels, IMAGE_CHANNELS), 0)

        depths = np.where(present, (layer + 0.5) / np.maximum(depth, 1)[:, None], 0.0)
        early = depths < parameter("B")
        block = _CODES[np.where(early, chosen("early"), chosen("late"))]
        block[:, :1] = BlockCode.CNA
        block = np.where(present, block, BlockCode.NONE)

        along = np.minimum(layer / np.maximum(depth - 1, 1)[:, None], 1.0)
        ratio = between(parameter("E0"), parameter("E1"), along)
        fused = block == BlockCode.FMBC
        expands = (fused & (ratio >= _SINGLE_BELOW)) | np.isin(
            block, (BlockCode.MBC, BlockCode.CNX)
        )
        expanded = np.where(expands, _rounded(in_channels * ratio), 0)
        squeezes = self._squeezes(chosen("se"), early) & expands & (block != BlockCode.CNX)
        squeeze = np.where(squeezes, np.maximum(1, (expanded / parameter("S")).astype(np.int64)), 0)
        return LayerTable(
            resolution=resolution,
            depth=depth,
            latent_channels=(
                _rounded(parameter("G1") * final) * (chosen("head") == 1) * (depth > 0)[:, None]
            )[:, 0],
            block=block,
            contracts=contracts,
            in_channels=in_channels,
            out_channels=out_channels,
            in_resolution=in_resolution,
            out_resolution=np.where(present, out_resolution, 0),
            expanded_channels=expanded,
            squeeze_channels=squeeze,
            expansion_ratio=np.where(present, np.where(expands, ratio, 1.0), 0.0),
            se_ratio=np.where(squeezes, parameter("S"), 0.0),
            kernel_size=self._kernel_size(block, chosen("kernel")),
            groups=_groups(block, in_channels, out_channels, chosen("group")),
            activation=np.broadcast_to(self._activation(chosen("activation")), block.shape),
            pools=contracts & (chosen("contraction") == 1),
            drop=0.0,
        )

    @staticmethod
    def _squeezes(se: IntArray, early: BoolArray) -> BoolArray:
        """Where there is squeeze-excitation: nowhere, in late blocks, or in all."""
        return np.asarray((se == 2) | ((se == 1) & ~early))

    @staticmethod
    def _kernel_size(block: IntArray, kernel: IntArray) -> IntArray:
        """Depthwise convolutions are 3x3 or 5x5, all others 3x3."""
        depthwise = np.isin(block, (BlockCode.MBC, BlockCode.CNX))
        return np.where(depthwise, 3 + 2 * kernel, 3)

    @staticmethod
    def _activation(chosen: IntArray) -> IntArray:
        """From the choice's place to that in ``ACTIVATIONS``."""
        names = [str(a) for a in ACTIVATIONS]
        return np.array([names.index(n) for n in ("relu", "silu", "gelu")])[chosen]


def _rounded(channels: FloatArray) -> IntArray:
    """The nearest multiple of 8, at least 8."""
    return np.asarray(np.maximum(_STEP, _STEP * np.rint(channels / _STEP)).astype(np.int64))


def _groups(
    block: IntArray, in_channels: IntArray, out_channels: IntArray, chosen: IntArray
) -> IntArray:
    """Groups of plain and residual convolutions, where the width divides both channels."""
    width = np.array([0, 16, 32])[chosen]
    grouped = np.isin(block, (BlockCode.CNA, BlockCode.RES)) & (width > 0)
    divides = (in_channels % np.maximum(width, 1) == 0) & (out_channels % np.maximum(width, 1) == 0)
    groups = np.maximum(1, np.minimum(in_channels, out_channels) // np.maximum(width, 1))
    fits = (in_channels % groups == 0) & (out_channels % groups == 0)
    # Both convolutions of a residual block have the same groups.
    return np.where(grouped & divides & fits, groups, 1)


BETAMIX = BetaMix()
