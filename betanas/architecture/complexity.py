"""What a network costs, counted from its description: the one place that knows.

Tests hold the counts against the torch module: ``num_params`` exactly, ``activation_bytes``
within 10 % of the tensors that autograd saves.
"""

from dataclasses import dataclass

import numpy as np

from betanas.architecture.layers import Architecture, BlockCode, LayerTable
from betanas.arrays import FloatArray, IntArray

FLOAT_BYTES = 4


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
    table = LayerTable.of(architecture)
    return count_table(table, architecture.num_classes, batch_size).row(0)


def count_table(table: LayerTable, num_classes: int, batch_size: int) -> Complexities:
    """Counts n networks at once; trivial ones cost what a bare classifier would.

    Args:
        table: The networks.
        num_classes: Outputs of the last linear layer.
        batch_size: Images of one training step on one device.
    """
    fused, inverted = table.block == BlockCode.FMBC, table.block == BlockCode.MBC
    head = table.block == BlockCode.CNA
    in_channels, out_channels = table.in_channels, table.out_channels
    expanded, squeeze = table.expanded_channels, table.squeeze_channels
    in_area, out_area = table.in_resolution**2, table.out_resolution**2

    # Weights of each layer's convolutions, apart by the area they are applied to.
    project = expanded * out_channels
    over_output = (
        head * 9 * in_channels * out_channels
        + fused * (9 * in_channels * expanded + project)
        + inverted * (9 * expanded + project)
    )
    over_input = inverted * in_channels * expanded
    over_pooled = inverted * 2 * expanded * squeeze
    norms = 2 * out_channels + 2 * expanded * (fused + 2 * inverted)
    se_biases = inverted * (squeeze + expanded)
    layer_params = over_output + over_input + over_pooled + norms + se_biases
    layer_macs = over_output * out_area + over_input * in_area + over_pooled

    latent = table.latent_channels
    last = np.maximum(table.depth - 1, 0)[:, None]
    if table.out_channels.shape[1]:
        last_channels = np.take_along_axis(out_channels, last, axis=1)[:, 0]
        last_area = np.take_along_axis(out_area, last, axis=1)[:, 0]
    else:
        last_channels = last_area = np.zeros_like(latent)
    linear = latent * num_classes
    num_params = layer_params.sum(axis=1) + last_channels * latent + 2 * latent
    saved_per_image = _saved_per_image(table) + last_channels * last_area
    saved_per_image += latent * (2 * last_area + 1)
    saved_once = norms.sum(axis=1) + 2 * latent  # mean and deviation of each normalised channel
    return Complexities(
        num_params=num_params + linear + num_classes,
        macs=layer_macs.sum(axis=1) + last_channels * latent * last_area + linear,
        activation_bytes=FLOAT_BYTES * (batch_size * saved_per_image + saved_once),
    )


def _saved_per_image(table: LayerTable) -> IntArray:
    """Values that autograd keeps of the layers for one image, shape ``n``.

    A convolution keeps its input, a batch norm its input, a SiLU its input. So an expansion keeps
    three tensors of its width (convolved, normalised, activated), a projection its own output;
    what a layer hands on is kept by the next one's convolution. Squeeze-excitation keeps the
    rescaled tensor and a few pooled vectors.
    """
    fused, inverted = table.block == BlockCode.FMBC, table.block == BlockCode.MBC
    head = table.block == BlockCode.CNA
    in_area, out_area = table.in_resolution**2, table.out_resolution**2
    expanded, out_channels = table.expanded_channels, table.out_channels
    saved = (
        table.in_channels * in_area
        + head * 2 * out_channels * out_area
        + fused * (3 * expanded + out_channels) * out_area
        + inverted * 3 * expanded * in_area
        + inverted * (4 * expanded + out_channels) * out_area
        + inverted * 2 * (expanded + table.squeeze_channels)
    )
    return np.asarray(saved.sum(axis=1), dtype=np.int64)


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
