"""A family: declared search parameters, and the rule from a kernel of them to an architecture."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from betanas.architecture.complexity import Complexities, count, count_table
from betanas.architecture.layers import Architecture, LayerTable
from betanas.architecture.profile import PROFILE, profile_chain, profile_table
from betanas.arrays import BoolArray, FloatArray, IntArray
from betanas.errors import InputError, KernelError
from betanas.parameters import Parameter

Kernel = Mapping[str, Any]  # ``name -> value``: a float, an int or a choice's option
_ANY_CLASSES = 10  # where they do not matter


class TrivialKernelError(KernelError):
    """A kernel that leaves nothing to build at this resolution."""


@dataclass(frozen=True, slots=True)
class Survey:
    """What is known of n kernels' networks at one resolution, before any training.

    Attributes:
        trivial: Which have no network at all, ``n``.
        complexities: Their costs, ``n``; anything for a trivial one.
        features: What their accuracy is likely to depend on, ``n x f``: finite, of any scale.
        layers: Of n networks, whose operators can then be timed; None if they are not of layers.
        sides: Of the networks' own inputs in pixels, ``n``, anything for a trivial one; None if all
            have the resolution that they are described at.
    """

    trivial: BoolArray
    complexities: Complexities
    features: FloatArray
    layers: LayerTable | None = None
    sides: IntArray | None = None


class Family(ABC):
    """A rule from kernels to architectures: subclass it, and register the class.

    ``name``, ``parameters`` and ``decode`` are all that search, report, training and export need.
    ``survey`` is asked about many thousands of kernels: override it where that can be computed for
    all of them at once.

    Attributes:
        name: What study files call it.
        parameters: The kernel's dimensions, in the order of its vectors.
        members: Published kernels by the names that ``--model`` may give, if any.
        published_for: Resolution and classes of a family that is published for one data set.
        width_parameter: The parameter that all widths are proportional to, if there is one: the
            finals then try the best networks wider, too.
        has_layers: Whether its networks are of layers, so that their operators can be timed.
    """

    name: str
    parameters: tuple[Parameter, ...]
    members: ClassVar[Mapping[str, Kernel]] = {}
    published_for: ClassVar[tuple[int, int] | None] = None
    width_parameter: ClassVar[str | None] = None
    has_layers: ClassVar[bool] = True

    @abstractmethod
    def decode(self, parameters: Kernel, resolution: int, num_classes: int) -> Architecture:
        """Decodes one kernel.

        Args:
            parameters: ``name -> value`` of all parameters, inside their domains.
            resolution: Input side in pixels.
            num_classes: Outputs of the last linear layer.

        Raises:
            TrivialKernelError: For a kernel that leaves nothing to build.
        """

    def allowed(self, kernels: FloatArray) -> BoolArray:
        """Which of n kernels, ``n x d``, keep a rule of the family's own: all, unless it has one.

        A search rejects the others as ``family_rule``; they can be decoded all the same.
        """
        return np.ones(len(kernels), dtype=np.bool_)

    def survey(
        self, kernels: FloatArray, resolution: int, num_classes: int, batch_size: int
    ) -> Survey:
        """Describes the networks of n kernels, ``n x d``, at one resolution.

        Args:
            kernels: As ``vector`` orders them.
            resolution: Input side in pixels.
            num_classes: Outputs of the last linear layer.
            batch_size: Images of one training step on one device.
        """
        if not self.has_layers:
            return self._counted_alone(kernels, resolution, num_classes, batch_size)
        networks: dict[int, Architecture] = {}
        for i, row in enumerate(kernels):
            with suppress(TrivialKernelError):
                networks[i] = self.decode(self.kernel(row), resolution, num_classes)
        rows = list(networks)
        costs = np.zeros((3, len(kernels)), dtype=np.int64)
        features = np.zeros((len(kernels), len(PROFILE)))
        sides = np.full(len(kernels), resolution)
        layers = None
        if rows:
            table = LayerTable.of(*networks.values())
            layers = table.spread(rows, len(kernels))
            counted = count_table(table, num_classes, batch_size)
            costs[:, rows] = counted.num_params, counted.macs, counted.activation_bytes
            features[rows] = profile_table(table)
            sides[rows] = [network.resolution for network in networks.values()]
        trivial = np.ones(len(kernels), dtype=np.bool_)
        trivial[rows] = False
        return Survey(trivial, Complexities(*costs), features, layers, sides)

    def _counted_alone(
        self, kernels: FloatArray, resolution: int, num_classes: int, batch_size: int
    ) -> Survey:
        """``survey`` of networks that no table holds: each different kernel's by itself."""
        unique, where = np.unique(kernels, axis=0, return_inverse=True)
        trivial = np.ones(len(unique), dtype=np.bool_)
        costs = np.zeros((len(unique), 3), dtype=np.int64)
        features = np.zeros((len(unique), len(PROFILE)))
        sides = np.full(len(unique), resolution)
        for i, row in enumerate(unique):
            with suppress(TrivialKernelError):
                network = self.decode(self.kernel(row), resolution, num_classes)
                cost = count(network, batch_size)
                costs[i] = cost.num_params, cost.macs, cost.activation_bytes
                features[i] = profile_chain(network.layers)
                sides[i] = network.resolution
                trivial[i] = False
        where = where.ravel()
        counted = Complexities(*costs[where].T)
        return Survey(trivial[where], counted, features[where], sides=sides[where])

    def settled(self, ranges: Mapping[str, tuple[Any, ...]]) -> dict[str, tuple[Any, ...]]:
        """The ranges of a study, with those fixed that shape none of its networks.

        Args:
            ranges: ``name -> (low, high)``, or options, of all parameters.
        """
        return dict(ranges)

    @property
    def names(self) -> tuple[str, ...]:
        """The parameters' names, in the order of a kernel vector."""
        return tuple(p.name for p in self.parameters)

    @property
    def ranges(self) -> dict[str, tuple[Any, ...]]:
        """``name -> (low, high)``, or options, as studies search them unless they say otherwise."""
        return {p.name: p.range for p in self.parameters}

    @property
    def domain(self) -> dict[str, tuple[Any, ...]]:
        """``name -> (low, high)``, or options, beyond which no study may go."""
        return {p.name: p.widest for p in self.parameters}

    @property
    def published(self) -> Kernel:
        """The first published kernel; raises InputError if there is none."""
        if not self.members:
            raise InputError(f"family {self.name} has no published kernel")
        return next(iter(self.members.values()))

    def vector(
        self, kernel: Kernel, ranges: Mapping[str, tuple[Any, ...]] | None = None
    ) -> FloatArray:
        """Orders a kernel's values and checks them.

        Args:
            kernel: ``name -> value``, all of the family's parameters.
            ranges: The range of each, inclusive; the family's domain if left out.

        Returns:
            The numbers that stand for the values, in the order of ``names``, shape ``d``.

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
        for p in self.parameters:
            p.check(kernel[p.name], ranges[p.name])
        return np.array([p.number(kernel[p.name]) for p in self.parameters], dtype=np.float64)

    def kernel(self, vector: Sequence[float] | FloatArray) -> dict[str, Any]:
        """Names the values of a vector of shape ``d``."""
        return {p.name: p.value(v) for p, v in zip(self.parameters, vector, strict=True)}


def largest_stochastic_depth(family: Family, resolution: int) -> float:
    """The probability that a family's networks give their last branch; 0 for those without one.

    It is that of the first member that has a network at this resolution.
    """
    for kernel in family.members.values():
        with suppress(TrivialKernelError):
            network = family.decode(dict(kernel), resolution, _ANY_CLASSES)
            found = max((layer.stochastic_depth for layer in network.layers), default=0.0)
            return round(found, 9)
    return 0.0
