"""One kernel at many resolutions: what the scaled-up network costs, by three rules. Free of torch.

A rule says which network belongs to which input side R, from the kernel as it was found at R0:

- ``plain``: the kernel at R, as the BetaNets are defined. Contractions go on until the side is
  below ``2**k``, so each doubling of R adds one, with K layers; widths are proportional to R.
- ``tamed``: ``k`` grows by 1 for each doubling of R, so that the number of contractions stays, and
  with it the depth; and widths grow as the square root of R. Weights then grow as R, not as its
  square and more. ``Growth`` has other numbers than 1 and 1/2.
- ``compound``: the network at R0, made deeper by ``alpha**phi`` and wider by ``beta**phi``, where
  ``gamma**phi = R / R0`` (Tan and Le, 2019, equation 3).
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from enum import StrEnum
from functools import cached_property
from typing import Any

import numpy as np

from betanas.architecture.complexity import Complexities, count, count_table
from betanas.architecture.compound import Multipliers, compound_table
from betanas.architecture.decoding import check_resolution, decode
from betanas.architecture.efficientnet import FOUND
from betanas.architecture.family import Family, Kernel, TrivialKernelError
from betanas.architecture.layers import Architecture, LayerTable
from betanas.errors import InputError

RESOLUTIONS = tuple(range(64, 1025, 32))
_MOST_LAYERS, _MOST_MACS = 2.0**18, 2.0**60  # that are counted, in memory and in 64 bits
_CONTRACTIONS = "k"  # the parameter of the families whose contractions follow the BetaNets' rule


class Rule(StrEnum):
    """How a kernel becomes a larger network."""

    PLAIN = "plain"
    TAMED = "tamed"
    COMPOUND = "compound"


@dataclass(frozen=True, slots=True)
class Growth:
    """The numbers in the rules.

    Attributes:
        k: Of ``k`` for each doubling of the side.
        width: Power of the side that widths are proportional to.
        alpha: Depth multiplier, >= 1.
        beta: Width multiplier, >= 1.
        gamma: Multiplier of the side, > 1; the authors' three, found for B0, by default.
    """

    k: float = 1.0
    width: float = 0.5
    alpha: float = FOUND["alpha"]
    beta: float = FOUND["beta"]
    gamma: float = FOUND["gamma"]

    def __post_init__(self) -> None:
        # Not a comparison the other way round: NaN fails this too.
        if not (self.alpha >= 1 and self.beta >= 1 and self.gamma > 1):
            raise InputError(
                "compound scaling needs alpha >= 1, beta >= 1 and gamma > 1, but got "
                f"{self.alpha:g}, {self.beta:g} and {self.gamma:g}"
            )
        if not (0 <= self.k <= 4 and 0 <= self.width <= 2):
            raise InputError(
                "tamed scaling needs a growth of k in [0, 4] and of widths in [0, 2], but got "
                f"{self.k:g} and {self.width:g}"
            )


@dataclass(frozen=True, slots=True)
class ScaledCost:
    """The cost of a network at one resolution; None where the kernel has no contraction there.

    Attributes:
        resolution: Input side in pixels that the kernel is decoded at.
        num_params: Trainable weights.
        macs: Multiply-adds of one image.
        activation_bytes: Kept activations of a training step.
        layers: Depth; 0 where the kernel is trivial.
        latency_ms: Of an answer, in milliseconds; None where it was not measured.
    """

    resolution: int
    num_params: int | None
    macs: int | None
    activation_bytes: int | None
    layers: int
    latency_ms: float | None = None

    def to_json(self) -> dict[str, Any]:
        """Plain data for ``json.dumps``; the latency if it was measured."""
        return {k: v for k, v in asdict(self).items() if k != "latency_ms" or v is not None}


@dataclass(frozen=True)
class Scaling:
    """One kernel, and the rule that makes it larger.

    Attributes:
        family: Whose rules decode the kernel.
        kernel: ``name -> value``.
        num_classes: Outputs of the last layer.
        rule: Which of the three.
        base: R0, the side that the kernel was found at, in pixels; ``plain`` does not need it.
        growth: The rules' numbers.

    Raises:
        InputError: For a rule that the family's networks or kernels cannot follow, or no classes.
    """

    family: Family
    kernel: Kernel
    num_classes: int
    rule: Rule = Rule.PLAIN
    base: int = 224
    growth: Growth = Growth()

    def __post_init__(self) -> None:
        check_resolution(self.base)
        if self.num_classes < 1:
            raise InputError(f"classes must be >= 1, but got {self.num_classes}")
        why = self.refusal(self.family, self.rule)
        if why:
            raise InputError(why)

    @staticmethod
    def refusal(family: Family, rule: Rule) -> str:
        """Why a family's networks cannot follow a rule; nothing if they can."""
        if rule is Rule.TAMED and (
            _CONTRACTIONS not in family.names or family.width_parameter is None
        ):
            return (
                f"rule tamed needs a family with k and a parameter of all widths, but "
                f"{family.name} has {', '.join(family.names)}; take another rule"
            )
        if rule is Rule.COMPOUND and not family.has_layers:
            return (
                f"rule compound needs networks of layers, but family {family.name} has others; "
                "take rule plain"
            )
        return ""

    def architecture(self, resolution: int) -> Architecture:
        """The network of one side, to be built.

        Raises:
            TrivialKernelError: If there is nothing to build.
        """
        if self.rule is Rule.COMPOUND:
            return self._compound(resolution).architecture(0, self.num_classes)
        return decode(self.family, self._kernel(resolution), resolution, self.num_classes)

    def cost(self, resolution: int, batch_size: int) -> ScaledCost:
        """What the network of one side costs.

        Args:
            resolution: Input side in pixels.
            batch_size: Images of a training step; scales ``activation_bytes`` only.
        """
        try:
            costs, depth = self._counted(resolution, batch_size)
        except TrivialKernelError:
            return ScaledCost(resolution, None, None, None, 0)
        found = costs.row(0)
        return ScaledCost(resolution, found.num_params, found.macs, found.activation_bytes, depth)

    def _counted(self, resolution: int, batch_size: int) -> tuple[Complexities, int]:
        """Costs and depth, without writing the network out where that can be had."""
        check_resolution(resolution)
        if self.rule is Rule.COMPOUND:
            table = self._compound(resolution)
            return count_table(table, self.num_classes, batch_size), int(table.depth[0])
        kernel = self._kernel(resolution)
        vector = self.family.vector(kernel)[None, :]
        survey = self.family.survey(vector, resolution, self.num_classes, batch_size)
        if survey.trivial[0]:
            raise TrivialKernelError
        if survey.layers is not None:
            return survey.complexities, int(survey.layers.depth[0])
        network = decode(self.family, kernel, resolution, self.num_classes)
        return survey.complexities, len(network.layers)

    def _kernel(self, resolution: int) -> Kernel:
        """The kernel at one side: itself, or tamed."""
        if self.rule is not Rule.TAMED or resolution == self.base:
            return self.kernel
        ratio = resolution / self.base
        width = str(self.family.width_parameter)
        changed: Mapping[str, Any] = {
            _CONTRACTIONS: self.kernel[_CONTRACTIONS] + self.growth.k * np.log2(ratio),
            width: self.kernel[width] * ratio ** (self.growth.width - 1),  # it is a pixel's
        }
        domain = self.family.domain
        # At sides that the domain has no k for, k goes as far as it does.
        return dict(self.kernel) | {
            name: float(np.clip(value, *domain[name])) for name, value in changed.items()
        }

    def _compound(self, resolution: int) -> LayerTable:
        g, ratio = self.growth, resolution / self.base
        # A family may give its networks another side than the one that they are decoded at.
        side = round(self._base_network.resolution * ratio)
        check_resolution(side)
        phi = np.array([np.log(ratio) / np.log(g.gamma)])
        with np.errstate(over="ignore"):
            by = Multipliers(g.alpha**phi, g.beta**phi, np.array([side]))
            layers = len(self._base_network.layers) * by.depth[0]
            macs = self._base_macs * by.depth[0] * by.width[0] ** 2 * ratio**2  # about
        if layers > _MOST_LAYERS or macs > _MOST_MACS:
            raise InputError(
                f"compound scaling from {self.base} to {resolution} pixels needs multipliers that "
                f"leave a network to be counted, but it would be {by.depth[0]:.3g} times as deep "
                f"and {by.width[0]:.3g} times as wide; take a smaller alpha or beta, a larger "
                "gamma, or nearer sides"
            )
        return compound_table(self._base_network, by)

    @cached_property
    def _base_macs(self) -> int:
        return count(self._base_network, 1).macs

    @cached_property
    def _base_network(self) -> Architecture:
        return decode(self.family, self.kernel, self.base, self.num_classes)


def scale(
    family: Family, kernel: Kernel, resolutions: Sequence[int], num_classes: int, batch_size: int
) -> list[ScaledCost]:
    """Counts one kernel at many resolutions by the plain rule.

    Args:
        family: Whose rules decode it.
        kernel: ``name -> value``.
        resolutions: Input sides in pixels, 16 to 4,096 each.
        num_classes: Outputs of the last layer.
        batch_size: Images of a training step; scales ``activation_bytes`` only.

    Raises:
        InputError: For a resolution out of range, or a kernel that does not fit the family.
    """
    return scaled_costs(Scaling(family, kernel, num_classes), resolutions, batch_size)


def scaled_costs(scaling: Scaling, resolutions: Sequence[int], batch_size: int) -> list[ScaledCost]:
    """Counts one kernel at many resolutions by its rule; arguments and errors as of ``scale``."""
    if batch_size < 1:
        raise InputError(f"batch size must be >= 1, but got {batch_size}")
    return [scaling.cost(resolution, batch_size) for resolution in resolutions]


@dataclass(frozen=True, slots=True)
class Ceiling:
    """What a scaled network may cost at most; None does not limit.

    Attributes:
        num_params: Trainable weights.
        macs: Multiply-adds of one image.
        latency_ms: Of an answer, in milliseconds.
    """

    num_params: int | None = None
    macs: int | None = None
    latency_ms: float | None = None

    def __post_init__(self) -> None:
        for option, value in (
            ("--max-params", self.num_params),
            ("--max-macs", self.macs),
            ("--max-latency-ms", self.latency_ms),
        ):
            if value is not None and not value > 0:
                raise InputError(f"{option} must be > 0, but got {value:g}")

    @property
    def limits(self) -> bool:
        """Whether it limits anything."""
        return self != Ceiling()

    def counted(self, row: ScaledCost) -> bool:
        """Whether a network keeps what is counted; a trivial one does not."""
        return bool(
            row.layers
            and (row.num_params or 0) <= (self.num_params or np.inf)
            and (row.macs or 0) <= (self.macs or np.inf)
        )


def largest(rows: Sequence[ScaledCost], ceiling: Ceiling) -> ScaledCost | None:
    """The row of the largest side that fits what is counted; None if none does."""
    fitting = [row for row in rows if ceiling.counted(row)]
    return max(fitting, key=lambda row: row.resolution, default=None)


def with_latency(row: ScaledCost, latency_ms: float) -> ScaledCost:
    """The row with what was measured."""
    return replace(row, latency_ms=latency_ms)


def parse_resolutions(text: str) -> tuple[int, ...]:
    """Reads ``64,96,...,1024``: numbers, or two numbers and a last one with dots between.

    Raises:
        InputError: For anything else.
    """
    parts = [part.strip() for part in text.split(",")]
    wrong = InputError(
        f"--resolutions takes numbers such as 64,128,256 or 64,96,...,1024, but got {text!r}"
    )
    numbers = [part for part in parts if part != "..."]
    if not numbers or not all(part.isdecimal() for part in numbers):
        raise wrong
    if "..." not in parts:
        return tuple(int(part) for part in parts)
    if len(parts) != 4 or parts[2] != "...":
        raise wrong
    first, second, last = (int(part) for part in numbers)
    if second <= first or last < second or (last - first) // (second - first) > 4096:
        raise wrong
    return tuple(range(first, last + 1, second - first))
