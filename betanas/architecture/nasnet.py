"""NASNet-A: as many normal cells before, between and behind two reductions, at any width.

Zoph et al., 2018, "Learning Transferable Architectures for Scalable Image Recognition", section 3
and Figures 2 and 4; the details that the paper leaves open as in its authors' code (TensorFlow's
slim, ``nasnet.py``), but for strides of even sides, which are padded on both sides here.
"""

from typing import ClassVar

import numpy as np

from betanas.architecture.complexity import Complexities, count
from betanas.architecture.family import Family, Kernel, Survey
from betanas.architecture.layers import IMAGE_CHANNELS, Activation, Block, Layer
from betanas.architecture.nasnet_cells import NORMAL_A, REDUCTION_A, SumCellNetwork
from betanas.arrays import FloatArray
from betanas.parameters import Integer

STEM_CHANNELS = 32
_WIDTHS = 24  # the last cell's channels are so many times the first one's: 4@1056 has F = 44


class NASNet(Family):
    """The family ``nasnet``; no kernel is trivial.

    ``nasnet_mobile`` is the paper's NASNet-A (4 @ 1056): 5,289,978 parameters at 1,000 classes.
    """

    name = "nasnet"
    parameters = (
        Integer("N", 2, 6, (1, 12), meaning="normal cells before, between and behind reductions"),
        Integer("F", 12, 64, (4, 256), meaning="channels of the first normal cells' nodes"),
    )
    members: ClassVar = {"nasnet_mobile": {"N": 4, "F": 1056 // _WIDTHS}}
    published_for: ClassVar = (224, 1000)
    has_layers: ClassVar[bool] = False

    def decode(self, parameters: Kernel, resolution: int, num_classes: int) -> SumCellNetwork:
        """Decodes one kernel; nothing in it depends on the resolution but the sides."""
        number, width = int(parameters["N"]), int(parameters["F"])
        side = (resolution - 3) // 2 + 1  # the first convolution is not padded
        layers = [_layer(Block.CN, IMAGE_CHANNELS, STEM_CHANNELS, 0, resolution, side)]
        for channels in (width // 4, width // 2):
            layers.append(_cell(Block.REDUCTION, layers[-1], channels))
        for stage in range(3):
            if stage:
                layers.append(_cell(Block.REDUCTION, layers[-1], width << stage))
            for _ in range(number):
                layers.append(_cell(Block.NORMAL, layers[-1], width << stage))
        second = 2 + 2 * number + 1  # the last layer before the second reduction
        return SumCellNetwork(
            resolution, num_classes, 0, tuple(layers), NORMAL_A, REDUCTION_A, second
        )

    def survey(
        self, kernels: FloatArray, resolution: int, num_classes: int, batch_size: int
    ) -> Survey:
        """Describes n kernels; the features, ``n x 4``, are logarithms of both and of two costs."""
        unique, where = np.unique(kernels, axis=0, return_inverse=True)
        counted = [
            count(self.decode(self.kernel(row), resolution, num_classes), batch_size)
            for row in unique
        ]
        rows = np.array(
            [(c.num_params, c.macs, c.activation_bytes) for c in counted], dtype=np.int64
        ).reshape(-1, 3)[where.ravel()]
        features = np.log(np.column_stack([kernels, rows[:, :2]]))
        trivial = np.zeros(len(kernels), dtype=np.bool_)
        return Survey(trivial, Complexities(*rows.T), features)


def _cell(block: Block, before: Layer, channels: int) -> Layer:
    """One cell behind a layer: four nodes of a reduction are handed on, six of a normal cell."""
    side = before.out_resolution
    reduces = block is Block.REDUCTION
    cell = REDUCTION_A if reduces else NORMAL_A
    out_side = -(-side // 2) if reduces else side
    out_channels = channels * len(cell.output)
    return _layer(block, before.out_channels, out_channels, channels, side, out_side)


def _layer(
    block: Block, in_channels: int, out_channels: int, inside: int, side: int, out_side: int
) -> Layer:
    return Layer(
        block=block,
        in_channels=in_channels,
        out_channels=out_channels,
        stride=1 if block is Block.NORMAL else 2,
        in_resolution=side,
        out_resolution=out_side,
        expanded_channels=inside,
        squeeze_channels=0,
        stochastic_depth=0.0,
        expansion_ratio=1.0,
        se_ratio=0.0,
        activation=Activation.RELU,
    )


NASNET = NASNet()
