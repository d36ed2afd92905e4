"""From kernels to architectures, by the rules of BETANET section 2, many kernels at a time.

The order of this file is the order of the rules: contractions, depth, contraction layers, widths,
blocks, ratios. Arrays are ``n x N``: n kernels, N the depth of the deepest.
"""

import numpy as np
import numpy.typing as npt

from betanas.architecture.beta import beta_ppf
from betanas.architecture.family import Family, Kernel, Skeleton
from betanas.architecture.layers import IMAGE_CHANNELS, Architecture, BlockCode, LayerTable
from betanas.arrays import BoolArray, FloatArray, IntArray
from betanas.errors import InputError, KernelError

MIN_RESOLUTION, MAX_RESOLUTION = 16, 4096


class TrivialKernelError(KernelError):
    """A kernel without a contraction at this resolution: there is nothing to build."""


def decode(family: Family, kernel: Kernel, resolution: int, num_classes: int) -> Architecture:
    """Decodes one kernel.

    Args:
        family: Whose rules to apply.
        kernel: ``name -> value``, inside the family's domain.
        resolution: Input side in pixels, 16 to 4,096.
        num_classes: At least 1.

    Raises:
        KernelError: For a kernel that does not fit the family.
        TrivialKernelError: For a kernel that has no contraction at this resolution.
        InputError: For a resolution or a number of classes out of range.
    """
    if num_classes < 1:
        raise InputError(f"num_classes must be >= 1, but got {num_classes}")
    vector = family.vector(kernel)
    table = decode_table(family, vector[None, :], resolution)
    if table.depth[0] == 0:
        raise TrivialKernelError(
            f"kernel.k must be <= log2(resolution) = {np.log2(resolution):.4g} to leave a "
            f"contraction, but got {kernel['k']:g}; use a smaller k or a larger resolution"
        )
    return table.architecture(0, num_classes)


def decode_table(family: Family, kernels: npt.ArrayLike, resolution: int) -> LayerTable:
    """Decodes n kernels at once; trivial ones become rows of depth 0.

    Args:
        family: Whose rules to apply.
        kernels: ``n x d`` in the order of ``family.names``, inside the family's domain.
        resolution: Input side in pixels, 16 to 4,096.

    Raises:
        InputError: For a resolution out of range, or kernels of another shape.
    """
    if not MIN_RESOLUTION <= resolution <= MAX_RESOLUTION:
        raise InputError(
            f"resolution must be in [{MIN_RESOLUTION}, {MAX_RESOLUTION}], but got {resolution}"
        )
    x = np.asarray(kernels, dtype=np.float64)
    if x.ndim != 2 or x.shape[1] != len(family.names):
        raise InputError(f"kernels must have shape n x {len(family.names)}, but got {x.shape}")

    def parameter(name: str) -> FloatArray:
        return x[:, [family.names.index(name)]]

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
    profile = family.width_profile(skeleton, parameter)
    out_channels = np.where(present, (3 + (final_width - 3) * profile).astype(np.int64), 0)
    in_channels = np.where(present, _shifted(out_channels, IMAGE_CHANNELS), 0)

    body = present & (layer > 0)
    fused = position < parameter("B")
    block = np.where(body, np.where(fused, BlockCode.FMBC, BlockCode.MBC), BlockCode.NONE)
    block[present & (layer == 0)] = BlockCode.CNA

    along = np.minimum(layer / np.maximum(depth - 1, 1)[:, None], 1.0)
    expansion_ratio = _between(parameter("E0"), parameter("E1"), along)
    se_ratio = _between(parameter("S0"), parameter("S1"), along)
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
        in_resolution=np.where(present, _shifted(out_resolution, resolution), 0),
        out_resolution=np.where(present, out_resolution, 0),
        expanded_channels=expanded,
        squeeze_channels=np.where(block == BlockCode.MBC, squeeze, 0),
        expansion_ratio=np.where(present, expansion_ratio, 0.0),
        se_ratio=np.where(present, se_ratio, 0.0),
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


def _shifted(values: IntArray, first: int) -> IntArray:
    """Each row's values one layer later, ``first`` before them."""
    shifted = np.empty_like(values)
    shifted[:, :1] = first
    shifted[:, 1:] = values[:, :-1]
    return shifted


def _between(first: FloatArray, last: FloatArray, along: FloatArray) -> FloatArray:
    return first + (last - first) * along
