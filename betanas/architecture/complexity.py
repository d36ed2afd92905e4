"""What a network costs, counted from its description: the one place that knows.

Tests hold the counts against the torch module: ``num_params`` exactly, ``activation_bytes``
within 10 % of the tensors that autograd saves.
"""

from dataclasses import dataclass

import numpy as np

from betanas.architecture.cell_complexity import count_cells
from betanas.architecture.cells import OPERATIONS, CellNetwork
from betanas.architecture.layers import (
    ACTIVATIONS,
    Activation,
    Architecture,
    BlockCode,
    LayerTable,
)
from betanas.architecture.nasnet_cells import SumCellNetwork, count_sums
from betanas.arrays import BoolArray, FloatArray, IntArray

FLOAT_BYTES, BF16_BYTES = 4, 2


@dataclass(frozen=True, slots=True)
class Complexity:
    """The cost of one network.

    Attributes:
        num_params: Trainable weights.
        macs: Multiply-adds of one image's forward pass, convolutions and linear layers.
        activation_bytes: What autograd keeps of one training step, float32, for the whole batch.
    """

    num_params: int
    macs: int
    activation_bytes: int


@dataclass(frozen=True, slots=True)
class Complexities:
    """The costs of n networks: arrays of shape ``n``, as in ``Complexity``."""

    num_params: IntArray
    macs: IntArray
    activation_bytes: IntArray

    def row(self, i: int) -> Complexity:
        """The cost of the i-th network."""
        return Complexity(int(self.num_params[i]), int(self.macs[i]), int(self.activation_bytes[i]))


def count(architecture: Architecture, batch_size: int) -> Complexity:
    """Counts one architecture.

    Args:
        architecture: What to count.
        batch_size: Images of one training step on one device; scales ``activation_bytes`` only.
    """
    if isinstance(architecture, CellNetwork):
        operations = np.array([[OPERATIONS.index(o) for o in architecture.cell.operations]])
        layers, classes = architecture.layers, architecture.num_classes
        num_params, macs, saved = count_cells(operations, layers, classes, batch_size)
        return Complexities(num_params, macs, FLOAT_BYTES * saved).row(0)
    if isinstance(architecture, SumCellNetwork):
        params, multiply_adds, values = count_sums(architecture, batch_size)
        return Complexity(params, multiply_adds, FLOAT_BYTES * values)
    table = LayerTable.of(architecture)
    return count_table(table, architecture.num_classes, batch_size).row(0)


def count_table(table: LayerTable, num_classes: int, batch_size: int) -> Complexities:
    """Counts n networks at once; trivial ones cost what a bare classifier would.

    Args:
        table: The networks.
        num_classes: Outputs of the last linear layer.
        batch_size: Images of one training step on one device.
    """
    code = table.block
    head, residual, next_ = (code == c for c in (BlockCode.CNA, BlockCode.RES, BlockCode.CNX))
    inverted, single = code == BlockCode.MBC, (code == BlockCode.FMBC)
    fused, single = single & (table.expanded_channels > 0), single & (table.expanded_channels == 0)
    expands = inverted & (table.expanded_channels > 0)
    in_channels, out_channels = table.in_channels, table.out_channels
    expanded, squeeze = table.inner_channels, table.squeeze_channels
    in_area, out_area = table.in_resolution**2, table.out_resolution**2
    pools = table.filled("pools", 0) > 0
    area = np.where(pools, in_area, out_area)  # that the spatial convolutions write
    window = table.filled("kernel_size", 3) ** 2
    groups = np.maximum(table.filled("groups", 1), 1)
    shortcut = residual & (table.contracts | (in_channels != out_channels))

    # Weights of each layer's convolutions, apart by the area they are applied to.
    project = expanded * out_channels
    over_output = (
        (head | single) * (window * in_channels * out_channels // groups)
        + residual * (window * (in_channels + out_channels) * out_channels // groups)
        + shortcut * in_channels * out_channels
        + fused * (window * in_channels * expanded + project)
        + inverted * (window * expanded + project)
        + next_ * (window * in_channels + in_channels * expanded + project)
    )
    over_input = expands * in_channels * expanded
    over_pooled = 2 * expanded * squeeze
    norms = 2 * out_channels * (1 - 1 * next_ + residual + shortcut)
    norms += 2 * expanded * (1 * fused + inverted + expands) + 2 * in_channels * next_
    biases = (squeeze > 0) * (squeeze + expanded) + next_ * (expanded + out_channels)
    layer_params = over_output + over_input + over_pooled + norms + biases
    layer_macs = over_output * area + over_input * in_area + over_pooled

    latent = table.latent_channels
    last = np.maximum(table.depth - 1, 0)[:, None]
    if table.out_channels.shape[1]:
        last_channels = np.take_along_axis(out_channels, last, axis=1)[:, 0]
        last_area = np.take_along_axis(out_area, last, axis=1)[:, 0]
    else:
        last_channels = last_area = np.zeros_like(latent)
    linear = np.where(latent > 0, latent, last_channels) * num_classes
    num_params = layer_params.sum(axis=1) + last_channels * latent + 2 * latent
    # The last layer's output is kept by the latent convolution, or by a ReLU that made it.
    kept = (latent > 0) | _ends_in_relu(table)
    features = np.where(latent > 0, latent, last_channels)  # that the linear layer reads
    saved_per_image = _saved_per_image(table) + kept * last_channels * last_area
    saved_per_image += latent * 2 * last_area + features
    saved_once = norms.sum(axis=1) + 2 * latent  # mean and deviation of each normalised channel
    return Complexities(
        num_params=num_params + linear + num_classes,
        macs=layer_macs.sum(axis=1) + last_channels * latent * last_area + linear,
        activation_bytes=FLOAT_BYTES * (batch_size * saved_per_image + saved_once),
    )


def _saved_per_image(table: LayerTable) -> IntArray:
    """Values that autograd keeps of the layers for one image, shape ``n``.

    A convolution keeps its input, a batch norm its input, SiLU and GELU their input, ReLU its
    result, pooling its input and where the largest were. So an expansion keeps three tensors of its
    width (convolved, normalised, activated), two with ReLU, a projection its own output; what a
    layer hands on is kept by the next one's convolution. Squeeze-excitation keeps the rescaled
    tensor and a few pooled vectors.
    """
    code = table.block
    head, residual, next_ = (code == c for c in (BlockCode.CNA, BlockCode.RES, BlockCode.CNX))
    inverted, single = code == BlockCode.MBC, (code == BlockCode.FMBC)
    fused, single = single & (table.expanded_channels > 0), single & (table.expanded_channels == 0)
    expands = inverted & (table.expanded_channels > 0)
    in_channels, out_channels = table.in_channels, table.out_channels
    expanded, squeeze = table.inner_channels, table.squeeze_channels
    in_area, out_area = table.in_resolution**2, table.out_resolution**2
    pools = table.filled("pools", 0) > 0
    area = np.where(pools, in_area, out_area)
    relu = table.filled("activation", 0) == ACTIVATIONS.index(Activation.RELU)
    smooth = ~relu  # the activation keeps what the norm before it has made
    squeezes = squeeze > 0
    shortcut = residual & (table.contracts | (in_channels != out_channels))
    adds = ~table.contracts & (in_channels == out_channels)
    saved = (
        in_channels * in_area
        + (head | single) * (1 + smooth) * out_channels * area
        + (single & adds & relu) * out_channels * area
        + residual * (3 + 2 * smooth + shortcut) * out_channels * area
        + fused * ((2 + smooth + squeezes) * expanded + out_channels) * area
        + expands * (2 + smooth) * expanded * in_area
        + inverted * ((2 + smooth + squeezes) * expanded + out_channels) * area
        + squeezes * 2 * (expanded + squeeze)
        + next_ * (2 * in_channels + (1 + smooth) * expanded) * area
        # An index is twice as large as a value.
        + pools * (out_channels * area + 2 * out_channels * out_area)
    )
    return np.asarray(saved.sum(axis=1), dtype=np.int64)


def _ends_in_relu(table: LayerTable) -> BoolArray:
    """Which networks' last layer hands on what a ReLU has made and kept, ``n``."""
    if not table.block.shape[1]:
        return np.zeros(len(table.block), dtype=np.bool_)
    last = np.maximum(table.depth - 1, 0)[:, None]

    def of_last(values: IntArray) -> IntArray:
        return np.take_along_axis(values, last, axis=1)[:, 0]

    code, contracts = of_last(table.block), of_last(1 * table.contracts)
    same = of_last(table.in_channels) == of_last(table.out_channels)
    single = (code == BlockCode.FMBC) & (of_last(table.expanded_channels) == 0)
    single &= ~same | (contracts > 0)
    ends = (code == BlockCode.CNA) | (code == BlockCode.RES) | single
    relu = of_last(table.filled("activation", 0)) == ACTIVATIONS.index(Activation.RELU)
    pooled = of_last(table.filled("pools", 0)) > 0
    return np.asarray(ends & relu & ~pooled)


def step_bytes(
    complexities: Complexities, optimizer_slots: int, value_bytes: int = FLOAT_BYTES
) -> FloatArray:
    """Memory of a training step: activations, weights, gradients and the optimiser's state.

    Args:
        complexities: The networks' costs.
        optimizer_slots: Values the optimiser keeps for each weight (Adam 2, momentum 1).
        value_bytes: Of an activation: 2 where models compute in bf16, which then also keep a copy
            of their weights in it.

    Returns:
        Bytes, shape ``n``.
    """
    per_weight = FLOAT_BYTES * (2 + optimizer_slots)
    if value_bytes < FLOAT_BYTES:
        per_weight += value_bytes
    activations = complexities.activation_bytes * (value_bytes / FLOAT_BYTES)
    return activations + complexities.num_params.astype(np.float64) * per_weight
