"""The BetaNets: from kernels to architectures by the rules of BETANET section 2.

Many kernels at a time, in the order of the rules: contractions, depth, contraction layers, widths,
blocks, ratios. Arrays are ``n x N``: n kernels, N the depth of the deepest.
"""

from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from betanas.architecture.beta import beta_ppf
from betanas.architecture.complexity import count_table
from betanas.architecture.decoding import check_resolution
from betanas.architecture.family import Family, Kernel, Survey, TrivialKernelError
from betanas.architecture.layers import IMAGE_CHANNELS, Architecture, BlockCode, LayerTable
from betanas.architecture.profile import profile_table
from betanas.arrays import BoolArray, FloatArray, IntArray
from betanas.errors import InputError
from betanas.parameters import Real

_LOG_BETA = (-2.0, 2.0)


@dataclass(frozen=True, slots=True)
class Skeleton:
    """What is fixed of a batch of n networks before their widths are: depth and resolutions.

    Attributes:
        resolution: Input side in pixels.
        depth: Layers of each network, ``n``; 0 marks a trivial one.
        contractions: Stride-2 layers of each network, ``n``.
        present: Whether layer i exists, ``n x N``.
        contracts: Whether layer i has stride 2, ``n x N``.
        out_resolution: Output side of layer i in pixels, ``n x N``; 1 past the end.
        position: Depth coordinate ``d_i = (i + 0.5) / depth``, ``n x N``; 0 past the end.
    """

    resolution: int
    depth: IntArray
    contractions: IntArray
    present: BoolArray
    contracts: BoolArray
    out_resolution: IntArray
    position: FloatArray


class TableFamily(Family):
    """A family that decodes many kernels at once: the rest follows from their table."""

    @abstractmethod
    def table(self, kernels: npt.ArrayLike, resolution: int) -> LayerTable:
        """Decodes n kernels at once; trivial ones become rows of depth 0.

        Args:
            kernels: ``n x d`` in the order of ``names``, inside the family's domain.
            resolution: Input side in pixels, 16 to 4,096.

        Raises:
            InputError: For a resolution out of range, or kernels of another shape.
        """

    def decode(self, parameters: Kernel, resolution: int, num_classes: int) -> Architecture:
        """Decodes one kernel; raises TrivialKernelError for one without a contraction."""
        table = self.table(self.vector(parameters)[None, :], resolution)
        if table.depth[0] == 0:
            raise TrivialKernelError(
                f"kernel.k must be <= log2(resolution) = {np.log2(resolution):.4g} to leave a "
                f"contraction, but got {parameters['k']:g}; use a smaller k or a larger resolution"
            )
        return table.architecture(0, num_classes)

    def survey(
        self, kernels: FloatArray, resolution: int, num_classes: int, batch_size: int
    ) -> Survey:
        """Describes n kernels' networks, ``n x d``, from their table."""
        table = self.table(kernels, resolution)
        costs = count_table(table, num_classes, batch_size)
        return Survey(table.depth == 0, costs, profile_table(table), table)


class BetaNet(TableFamily):
    """Networks whose contractions and widths follow Beta distributions over the depth.

    The families differ in their parameters and in ``width_profile``.
    """

    parameters: tuple[Real, ...]
    width_parameter = "G0"

    @abstractmethod
    def width_profile(
        self, skeleton: Skeleton, parameter: Callable[[str], FloatArray]
    ) -> FloatArray:
        """Returns ``u`` in [0, 1] of every layer's width, ``n x N``.

        Args:
            skeleton: Depth and resolutions.
            parameter: From a parameter's name to its column, ``n x 1``.
        """

    def table(self, kernels: npt.ArrayLike, resolution: int) -> LayerTable:
        """As ``TableFamily.table``."""
        check_resolution(resolution)
        x = np.asarray(kernels, dtype=np.float64)
        if x.ndim != 2 or x.shape[1] != len(self.names):
            raise InputError(f"kernels must have shape n x {len(self.names)}, but got {x.shape}")

        def parameter(name: str) -> FloatArray:
            return x[:, [self.names.index(name)]]

        contractions, sides = count_contractions(parameter("k")[:, 0], resolution)
        depth = (parameter("K")[:, 0] * contractions).astype(np.int64)
        contracts = place_contractions(depth, contractions, parameter("Da"), parameter("Db"))
        layer = np.arange(contracts.shape[1])
        present = layer < depth[:, None]
        out_resolution = np.where(present, sides[np.cumsum(contracts, axis=1)], 1)
        position = np.where(present, (layer + 0.5) / np.maximum(depth, 1)[:, None], 0.0)
        skeleton = Skeleton(
            resolution, depth, contractions, present, contracts, out_resolution, position
        )

        final_width = parameter("G0") * resolution
        profile = self.width_profile(skeleton, parameter)
        out_channels = np.where(present, (3 + (final_width - 3) * profile).astype(np.int64), 0)
        in_channels = np.where(present, shifted(out_channels, IMAGE_CHANNELS), 0)

        body = present & (layer > 0)
        fused = position < parameter("B")
        block = np.where(body, np.where(fused, BlockCode.FMBC, BlockCode.MBC), BlockCode.NONE)
        block[present & (layer == 0)] = BlockCode.CNA

        along = np.minimum(layer / np.maximum(depth - 1, 1)[:, None], 1.0)
        expansion_ratio = between(parameter("E0"), parameter("E1"), along)
        se_ratio = between(parameter("S0"), parameter("S1"), along)
        expanded = np.where(body, (in_channels * expansion_ratio).astype(np.int64), 0)
        squeeze = np.maximum(1, (expanded / se_ratio).astype(np.int64))
        return LayerTable(
            resolution=resolution,
            depth=depth,
            latent_channels=(parameter("G1") * final_width)[:, 0].astype(np.int64),
            block=block,
            contracts=contracts,
            in_channels=in_channels,
            out_channels=out_channels,
            in_resolution=np.where(present, shifted(out_resolution, resolution), 0),
            out_resolution=np.where(present, out_resolution, 0),
            expanded_channels=expanded,
            squeeze_channels=np.where(block == BlockCode.MBC, squeeze, 0),
            expansion_ratio=np.where(present, expansion_ratio, 0.0),
            se_ratio=np.where(present, se_ratio, 0.0),
        )


def common_parameters(*width_parameters: Real) -> tuple[Real, ...]:
    """The parameters of BETANET's Table 1 that all families share, around a family's own.

    The ranges are those of our studies: K, E and S reach further than the report's Table 1, since
    its own results (K 4.30, E 5.07, S 29.90) lie outside of it.
    """
    return (
        Real("k", 2, 10, (1, 12), "log2 of the bound on the final resolution (exclusive)"),
        Real("K", 2, 5, (1, 16), "layers per contraction"),
        Real("Da", -0.5, 0.5, _LOG_BETA, "log10 of the first Beta parameter, contractions"),
        Real("Db", -0.5, 0.5, _LOG_BETA, "log10 of the second Beta parameter, contractions"),
        *width_parameters,
        Real("G0", 2, 5, (0.25, 32), "final width in channels per pixel of resolution"),
        Real("G1", 1, 3, (0.1, 16), "latent size per channel of the final width"),
        Real("B", 0, 1, (0, 1), "depth at which Fused-MBConv gives way to MBConv"),
        Real("E0", 2, 6, (1, 16), "expansion ratio of the first layer"),
        Real("E1", 2, 6, (1, 16), "expansion ratio of the last layer"),
        Real("S0", 10, 30, (1, 256), "squeeze-excitation ratio of the first layer"),
        Real("S1", 10, 30, (1, 256), "squeeze-excitation ratio of the last layer"),
    )


def count_contractions(k: FloatArray, resolution: int) -> tuple[IntArray, IntArray]:
    """Counts the halvings ``r -> ceil(r / 2)`` until ``r < 2**k``.

    Args:
        k: Shape ``n``, each >= 1.
        resolution: The side to start from.

    Returns:
        L of each kernel, shape ``n``, and the side after 0, 1, 2, ... halvings.
    """
    sides = [resolution]
    while sides[-1] > 1:
        sides.append(-(-sides[-1] // 2))
    reached = np.array(sides)
    return np.sum(reached >= np.power(2.0, k)[:, None], axis=1), reached


def place_contractions(
    depth: IntArray, contractions: IntArray, log10_a: FloatArray, log10_b: FloatArray
) -> BoolArray:
    """Chooses the layers with stride 2: layer 0, and L-1 more spaced by a Beta distribution.

    Where the distribution puts two on one layer, the later one takes the next free layer, or the
    nearest free one before it if none is left.

    Args:
        depth: Layers of each network, ``n``.
        contractions: L of each network, ``n``; at most its depth.
        log10_a: Da, ``n x 1``.
        log10_b: Db, ``n x 1``.

    Returns:
        ``n x N``, exactly L of each row true.
    """
    layer = np.arange(depth.max(initial=0))
    contracts: BoolArray = (layer == 0) & (depth[:, None] > 0)
    for j in range(1, int(contractions.max(initial=0))):
        rows = np.flatnonzero(contractions > j)
        last = depth[rows] - 1
        wish = last * beta_ppf(j / contractions[rows], log10_a[rows, 0], log10_b[rows, 0])
        wished = np.minimum(1 + wish.astype(np.int64), last)[:, None]
        free = ~contracts[rows] & (layer <= last[:, None])
        after = free & (layer >= wished)
        before = free & (layer < wished)
        chosen = np.where(
            after.any(axis=1),
            after.argmax(axis=1),
            len(layer) - 1 - before[:, ::-1].argmax(axis=1),
        )
        contracts[rows, chosen] = True
    return contracts


def shifted(values: IntArray, first: int) -> IntArray:
    """Each row's values one layer later, ``first`` before them."""
    shifted = np.empty_like(values)
    shifted[:, :1] = first
    shifted[:, 1:] = values[:, :-1]
    return shifted


def between(first: FloatArray, last: FloatArray, along: FloatArray) -> FloatArray:
    """On the line from ``first`` to ``last``, which are reached at 0 and 1."""
    return first + (last - first) * along
