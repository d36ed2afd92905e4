"""What the search asks of a space: what is feasible, what it costs, what is the same experiment.

The Gaussian process, its acquisition and the other samplers know nothing of architectures: they
work on any box with such rules, which is how benchmarks/search.py holds them against problems of
other fields.
"""

from collections.abc import Hashable
from dataclasses import dataclass, field, replace
from typing import Protocol

import numpy as np

from betanas.architecture.complexity import step_bytes
from betanas.architecture.decoding import decode
from betanas.architecture.limits import Feasibility
from betanas.arrays import BoolArray, FloatArray
from betanas.search.space import Space
from betanas.study.definition import kernel_of


@dataclass(frozen=True, slots=True)
class Assessment:
    """What is known of n kernels before any training.

    Attributes:
        feasible: Which may be trained, ``n``.
        traits: What the objective is likely to depend on beside the kernel itself, ``n x c``;
            finite, of any scale, c >= 0.
    """

    feasible: BoolArray
    traits: FloatArray


class Rules(Protocol):
    """Exact knowledge about the kernels of one space."""

    def assess(self, kernels: FloatArray) -> Assessment:
        """Assesses n kernels, ``n x d``; cheap, since it is asked about many thousands."""
        ...

    def identity(self, kernel: FloatArray) -> Hashable:
        """Equal for two kernels, ``d``, of which only one is worth training."""
        ...


@dataclass(frozen=True)
class ArchitectureRules:
    """The rules of a study: its limits, and the networks' costs and profiles as traits.

    Attributes:
        space: Gives the kernels' parameters their names.
        feasibility: The declared limits.
        memory_below: Steps that need so many bytes or more have run out of memory on the device;
            None if none has.
    """

    space: Space
    feasibility: Feasibility
    memory_below: float | None = None
    _identities: dict[bytes, Hashable] = field(
        default_factory=dict, init=False, repr=False, compare=False
    )

    def assess(self, kernels: FloatArray) -> Assessment:
        """Assesses n kernels, ``n x d``."""
        verdicts = self.feasibility.check(self.space.architectural(kernels))
        costs = verdicts.complexities
        feasible = verdicts.feasible
        if self.memory_below is not None:
            needed = step_bytes(costs, self.feasibility.optimizer_slots)
            feasible = feasible & (needed < self.memory_below)
        traits = [np.log(np.maximum(c, 1)) for c in (costs.num_params, costs.macs)]
        return Assessment(feasible, np.column_stack([*traits, verdicts.profile]))

    def identity(self, kernel: FloatArray) -> Hashable:
        """The architecture's fingerprint and the recipe's values of a feasible kernel, ``d``."""
        key = kernel.tobytes()
        if key not in self._identities:
            rules, named = self.feasibility, kernel_of(self.space.kernel(kernel))
            architecture = decode(rules.family, named, rules.limits.resolution, rules.num_classes)
            recipe = tuple(kernel[len(named) :].tolist())
            self._identities[key] = (architecture.fingerprint, recipe)
        return self._identities[key]

    def tightened(self, out_of_memory: FloatArray, complete: FloatArray) -> "ArchitectureRules":
        """Rules that also exclude what needs as much memory as a step that ran out of it.

        A step that needed no more than one that fitted ran out for another reason (somebody
        else's process on the device, say), and tightens nothing.

        Args:
            out_of_memory: Kernels, ``n x d``, whose training ran out of memory.
            complete: Kernels, ``m x d``, whose training did not.
        """
        needed, fitted = self._step_bytes(out_of_memory), self._step_bytes(complete)
        surprises = needed[needed > fitted.max(initial=0.0)]
        return replace(self, memory_below=float(surprises.min())) if len(surprises) else self

    def _step_bytes(self, kernels: FloatArray) -> FloatArray:
        if len(kernels) == 0:
            return np.zeros(0)
        costs = self.feasibility.check(self.space.architectural(kernels)).complexities
        return step_bytes(costs, self.feasibility.optimizer_slots)
