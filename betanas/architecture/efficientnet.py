"""EfficientNet: one network, B0, and the three multipliers by which it is scaled.

Source: Tan and Le, 2019, "EfficientNet: Rethinking Model Scaling for Convolutional Neural
Networks": table 1 is B0, equation 3 the scaling, section 3.3 the search. Counts as torchvision's
``models/efficientnet.py``.
"""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from betanas.architecture.betanet import TableFamily
from betanas.architecture.complexity import count_table
from betanas.architecture.compound import Multipliers, compound_table
from betanas.architecture.decoding import MAX_RESOLUTION, MIN_RESOLUTION, check_resolution
from betanas.architecture.family import Kernel, Survey, TrivialKernelError
from betanas.architecture.layers import (
    IMAGE_CHANNELS,
    STOCHASTIC_DEPTH,
    Architecture,
    Block,
    Layer,
    LayerTable,
)
from betanas.architecture.profile import profile_table
from betanas.arrays import BoolArray, FloatArray, IntArray
from betanas.errors import InputError
from betanas.parameters import Real

SIDE = 224  # B0's input in pixels
MOST = 64  # times B0's depth or width: what is larger nobody trains, and its table fits no memory
BAND = 0.1  # how far alpha * beta**2 * gamma**2 may lie from 2

# Table 1: expansion ratio, kernel size, stride, channels, layers. The stem has 32 channels.
_STAGES = (
    (1, 3, 1, 16, 1), (6, 3, 2, 24, 2), (6, 5, 2, 40, 2), (6, 3, 2, 80, 3), (6, 5, 1, 112, 3),
    (6, 5, 2, 192, 4), (6, 3, 1, 320, 1),
)  # fmt: skip
_STEM, _LATENT, _SQUEEZE = 32, 1280, 4


@dataclass(frozen=True, slots=True)
class Coefficients:
    """What the authors have published of one network; the formula does not give them exactly.

    Attributes:
        width: Multiplier of B0's channels.
        depth: Multiplier of the layers of B0's stages.
        resolution: Input side in pixels.
    """

    width: float
    depth: float
    resolution: int


# The authors' ``efficientnet_builder.py``.
PUBLISHED = {
    "efficientnet-b0": Coefficients(1.0, 1.0, 224),
    "efficientnet-b1": Coefficients(1.0, 1.1, 240),
    "efficientnet-b2": Coefficients(1.1, 1.2, 260),
    "efficientnet-b3": Coefficients(1.2, 1.4, 300),
    "efficientnet-b4": Coefficients(1.4, 1.8, 380),
    "efficientnet-b5": Coefficients(1.6, 2.2, 456),
    "efficientnet-b6": Coefficients(1.8, 2.6, 528),
    "efficientnet-b7": Coefficients(2.0, 3.1, 600),
}
FOUND = {"alpha": 1.2, "beta": 1.1, "gamma": 1.15}  # by the authors' grid search, for B0


def _base() -> Architecture:
    """B0 at its own side, for 1,000 classes."""
    last = sum(stage[-1] for stage in _STAGES)  # layers behind the stem
    layers = [Layer(Block.CNA, IMAGE_CHANNELS, _STEM, 2, SIDE, SIDE // 2, 0, 0, 0.0, 1.0, 1.0)]
    for ratio, size, stride, channels, repeats in _STAGES:
        for i in range(repeats):
            read, side = layers[-1].out_channels, layers[-1].out_resolution
            by = stride if i == 0 else 1
            drops = by == 1 and read == channels
            layers.append(
                Layer(
                    Block.MBC,
                    read,
                    channels,
                    by,
                    side,
                    side // by,
                    expanded_channels=ratio * read if ratio > 1 else 0,
                    squeeze_channels=read // _SQUEEZE,  # of the block's input, not the expansion
                    stochastic_depth=STOCHASTIC_DEPTH * len(layers) / last if drops else 0.0,
                    expansion_ratio=ratio,
                    se_ratio=ratio * _SQUEEZE,
                    kernel_size=size,
                )
            )
    return Architecture(SIDE, 1000, _LATENT, tuple(layers))


B0 = _base()


class EfficientNet(TableFamily):
    """The family ``efficientnet``: B0 scaled by depth, width and side to the power of phi.

    A network's side is the study's times ``gamma**phi``, in whole pixels; none is more than
    ``MOST`` times as deep or wide as B0. The published networks are members with their own
    multipliers and ``phi = 1``.
    """

    name = "efficientnet"
    parameters = (
        Real("alpha", 1, 2, (0.1, 8), "depth multiplier"),
        Real("beta", 1, 2, (0.1, 8), "width multiplier"),
        Real("gamma", 1, 2, (0.1, 8), "multiplier of the input side"),
        Real("phi", 0, 3, (-8, 16), "power that all three are raised to"),
    )
    published_for = (SIDE, B0.num_classes)
    members: ClassVar = {
        name: {**FOUND, "phi": 0.0}
        if c.resolution == SIDE
        else {"alpha": c.depth, "beta": c.width, "gamma": c.resolution / SIDE, "phi": 1.0}
        for name, c in PUBLISHED.items()
    }

    def allowed(self, kernels: npt.ArrayLike) -> BoolArray:
        """Which of n kernels, ``n x d``, lie in the band ``|alpha beta^2 gamma^2 - 2| <= 0.1``.

        So multiply-adds about double when phi rises by one.
        """
        alpha, beta, gamma, _ = np.asarray(kernels, dtype=np.float64).T
        return np.asarray(np.abs(alpha * beta**2 * gamma**2 - 2) <= BAND)

    def table(self, kernels: npt.ArrayLike, resolution: int) -> LayerTable:
        """Decodes n kernels at once.

        Sides out of range are moved to its ends; in place of a network that is too large there is
        B0 at its side.
        """
        x, sides = self._sides(kernels, resolution)
        by = self._multipliers(x)
        depth, width = np.where(_too_large(by), 1.0, by)
        sides = np.clip(sides, MIN_RESOLUTION, MAX_RESOLUTION)
        return compound_table(B0, Multipliers(depth, width, sides))

    def decode(self, parameters: Kernel, resolution: int, num_classes: int) -> Architecture:
        """Decodes one kernel.

        Raises:
            TrivialKernelError: For a side that no network is made for, or a network that is more
                than ``MOST`` times as deep or wide as B0.
        """
        vector = self.vector(parameters)[None, :]
        by = self._multipliers(vector)
        if _too_large(by)[0]:
            raise TrivialKernelError(
                f"alpha**phi and beta**phi must be <= {MOST}, but got {by[0, 0]:.4g} and "
                f"{by[1, 0]:.4g}; use another alpha, beta or phi"
            )
        side = self._sides(vector, resolution)[1][0]
        if not MIN_RESOLUTION <= side <= MAX_RESOLUTION:
            raise TrivialKernelError(
                f"resolution * gamma**phi must be in [{MIN_RESOLUTION}, {MAX_RESOLUTION}], but got "
                f"{side} from resolution = {resolution}; use another gamma, phi or resolution"
            )
        return self.table(vector, resolution).architecture(0, num_classes)

    def survey(
        self, kernels: FloatArray, resolution: int, num_classes: int, batch_size: int
    ) -> Survey:
        """Describes n kernels' networks, ``n x d``, from their table."""
        sides = self._sides(kernels, resolution)[1]
        table = self.table(kernels, resolution)
        costs = count_table(table, num_classes, batch_size)
        trivial = (sides < MIN_RESOLUTION) | (sides > MAX_RESOLUTION)
        trivial |= _too_large(self._multipliers(np.asarray(kernels, dtype=np.float64)))
        return Survey(trivial, costs, profile_table(table), table, sides)

    def _sides(self, kernels: npt.ArrayLike, resolution: int) -> tuple[FloatArray, IntArray]:
        """The kernels as an array, and their networks' sides in pixels, ``n``."""
        check_resolution(resolution)
        x = np.asarray(kernels, dtype=np.float64)
        if x.ndim != 2 or x.shape[1] != len(self.names):
            raise InputError(f"kernels must have shape n x {len(self.names)}, but got {x.shape}")
        sides = np.minimum(resolution * np.power(x[:, 2], x[:, 3]), 2.0**31)
        return x, np.rint(sides).astype(np.int64)

    @staticmethod
    def _multipliers(kernels: FloatArray) -> FloatArray:
        """Of depth and of width, ``2 x n``."""
        return np.asarray(np.power(kernels[:, :2].T, kernels[:, 3]))


def _too_large(by: FloatArray) -> BoolArray:
    """Which of n networks nobody builds, by their multipliers of depth and width, ``2 x n``."""
    return np.asarray((by > MOST).any(axis=0))


EFFICIENTNET = EfficientNet()
