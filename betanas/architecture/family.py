"""A family: the named search parameters of a kernel and the one rule in which families differ."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from betanas.arrays import BoolArray, FloatArray, IntArray
from betanas.errors import KernelError

Kernel = Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Parameter:
    """One dimension of the search space.

    Attributes:
        name: The published symbol.
        low: Lower end of the range that our studies search.
        high: Upper end of that range.
        domain: The widest range in which the decoding rules make sense; a study may not leave it.
        meaning: What it shapes, for people.
    """

    name: str
    low: float
    high: float
    domain: tuple[float, float]
    meaning: str


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


class WidthProfile(Protocol):
    """The rule in which families differ: ``u`` in [0, 1] of every layer's width."""

    def __call__(self, skeleton: Skeleton, parameter: Callable[[str], FloatArray]) -> FloatArray:
        """Returns ``n x N`` profile values; ``parameter(name)`` gives a column, ``n x 1``."""
        ...


@dataclass(frozen=True)
class Family:
    """A rule from kernels to architectures.

    Attributes:
        name: ``betanet2`` or ``betanet3``.
        parameters: The kernel's dimensions, in their published order.
        width_profile: How the widths grow along the depth.
        published: The kernel that the report's search ended with.
    """

    name: str
    parameters: tuple[Parameter, ...]
    width_profile: WidthProfile
    published: Kernel

    @property
    def names(self) -> tuple[str, ...]:
        """The parameters' names, in the order of a kernel vector."""
        return tuple(p.name for p in self.parameters)

    @property
    def ranges(self) -> dict[str, tuple[float, float]]:
        """``name -> (low, high)`` as our studies search them."""
        return {p.name: (p.low, p.high) for p in self.parameters}

    @property
    def domain(self) -> dict[str, tuple[float, float]]:
        """``name -> (low, high)`` beyond which no study may go."""
        return {p.name: p.domain for p in self.parameters}

    def vector(
        self, kernel: Kernel, ranges: Mapping[str, tuple[float, float]] | None = None
    ) -> FloatArray:
        """Orders a kernel's values and checks them.

        Args:
            kernel: ``name -> value``, all of the family's parameters.
            ranges: The range of each, inclusive; the family's domain if left out.

        Returns:
            The values in the order of ``names``, shape ``d``.

        Raises:
            KernelError: For a name too few or too many, or a value outside its range.
        """
        missing, unknown = set(self.names) - set(kernel), set(kernel) - set(self.names)
        if missing or unknown:
            wrong = [f"missing {name}" for name in self.names if name in missing]
            wrong += [f"unknown {name}" for name in sorted(unknown)]
            raise KernelError(
                f"a {self.name} kernel must have exactly the parameters {', '.join(self.names)}, "
                f"but got {', '.join(wrong)}"
            )
        ranges = ranges or self.domain
        for name in self.names:
            low, high = ranges[name]
            value = kernel[name]
            if isinstance(value, bool) or not isinstance(value, int | float):
                raise KernelError(f"kernel.{name} must be a number, but got {value!r}")
            if not low <= value <= high:  # NaN fails this too
                raise KernelError(
                    f"kernel.{name} must be in [{low:g}, {high:g}], but got {value:g}"
                )
        return np.array([kernel[name] for name in self.names], dtype=np.float64)

    def kernel(self, vector: Sequence[float] | FloatArray) -> dict[str, float]:
        """Names the values of a vector of shape ``d``."""
        return {name: float(v) for name, v in zip(self.names, vector, strict=True)}


_LOG_BETA = (-2.0, 2.0)


def common_parameters(*width_parameters: Parameter) -> tuple[Parameter, ...]:
    """The parameters of BETANET's Table 1 that all families share, around a family's own.

    The ranges are those of our studies: K, E and S reach further than the report's Table 1, since
    its own results (K 4.30, E 5.07, S 29.90) lie outside of it.
    """
    return (
        Parameter("k", 2, 10, (1, 12), "log2 of the bound on the final resolution (exclusive)"),
        Parameter("K", 2, 5, (1, 16), "layers per contraction"),
        Parameter("Da", -0.5, 0.5, _LOG_BETA, "log10 of the first Beta parameter, contractions"),
        Parameter("Db", -0.5, 0.5, _LOG_BETA, "log10 of the second Beta parameter, contractions"),
        *width_parameters,
        Parameter("G0", 2, 5, (0.25, 32), "final width in channels per pixel of resolution"),
        Parameter("G1", 1, 3, (0.1, 16), "latent size per channel of the final width"),
        Parameter("B", 0, 1, (0, 1), "depth at which Fused-MBConv gives way to MBConv"),
        Parameter("E0", 2, 6, (1, 16), "expansion ratio of the first layer"),
        Parameter("E1", 2, 6, (1, 16), "expansion ratio of the last layer"),
        Parameter("S0", 10, 30, (1, 256), "squeeze-excitation ratio of the first layer"),
        Parameter("S1", 10, 30, (1, 256), "squeeze-excitation ratio of the last layer"),
    )
