"""The search space as a unit cube, and the Sobol sequence that opens a study."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from optuna.distributions import BaseDistribution, FloatDistribution
from scipy.stats import qmc

from betanas.architecture.limits import Feasibility
from betanas.arrays import BoolArray, FloatArray
from betanas.errors import InputError
from betanas.study.definition import RECIPE_PREFIX, StudyDefinition

MAX_SOBOL_TRIALS = 20_000
_PROBE = 2**17  # kernels to try before saying that nothing is feasible


@dataclass(frozen=True)
class Space:
    """The ranges of all that a study searches.

    Vectors carry the kernel's parameters in the family's order, then the recipe's values that are
    searched beside it, if any; "kernel" means the whole vector here.

    Attributes:
        names: The d parameters.
        low: Lower ends, ``d``.
        high: Upper ends, ``d``; equal to ``low`` where a parameter is fixed.
        log: Names of those whose logarithm is searched.
    """

    names: tuple[str, ...]
    low: FloatArray
    high: FloatArray
    log: frozenset[str] = frozenset()

    @classmethod
    def of(cls, definition: StudyDefinition) -> "Space":
        """The space that a study file declares."""
        low, high = np.array(list(definition.ranges.values()), dtype=np.float64).T
        log = {RECIPE_PREFIX + key for key, r in definition.recipe_ranges.items() if r.log}
        return cls(tuple(definition.ranges), low, high, frozenset(log))

    def architectural(self, kernels: FloatArray) -> FloatArray:
        """The columns that decide the architecture, ``n x d`` to ``n x d'``."""
        return kernels[:, : sum(not name.startswith(RECIPE_PREFIX) for name in self.names)]

    @property
    def free(self) -> list[int]:
        """Indices of the parameters that are searched, not fixed."""
        return [i for i in range(len(self.names)) if self.low[i] < self.high[i]]

    @property
    def distributions(self) -> dict[str, FloatDistribution]:
        """Optuna's view of all parameters."""
        return {
            name: FloatDistribution(float(low), float(high), log=name in self.log)
            for name, low, high in zip(self.names, self.low, self.high, strict=True)
        }

    @property
    def searched(self) -> dict[str, BaseDistribution]:
        """Optuna's view of the free parameters."""
        return {self.names[i]: self.distributions[self.names[i]] for i in self.free}

    @property
    def searched_linearly(self) -> dict[str, BaseDistribution]:
        """The free parameters without their scales, for who is to see plain values."""
        return {
            self.names[i]: FloatDistribution(float(self.low[i]), float(self.high[i]))
            for i in self.free
        }

    def kernels(self, unit: FloatArray) -> FloatArray:
        """Maps the unit cube, ``n x d``, to kernels, ``n x d``."""
        # Optuna's samplers cut off a range's last float; a limit might lie exactly there.
        highest = np.nextafter(self.high, self.low)
        low, high = self._scaled(self.low), self._scaled(self.high)
        scaled = low + (high - low) * unit
        values = np.where(self._is_log, np.exp(scaled), scaled) if self.log else scaled
        return np.clip(values, self.low, highest)

    def unit(self, kernels: FloatArray) -> FloatArray:
        """Maps kernels, ``n x d``, to the unit cube; fixed parameters become 0."""
        low, width = self._scaled(self.low), self._scaled(self.high) - self._scaled(self.low)
        return (self._scaled(kernels) - low) / np.where(width > 0, width, 1.0)

    @cached_property
    def _is_log(self) -> BoolArray:
        return np.array([name in self.log for name in self.names])

    def _scaled(self, values: FloatArray) -> FloatArray:
        """On the scale that is searched evenly."""
        if not self.log:
            return values
        return np.where(self._is_log, np.log(np.where(self._is_log, values, 1.0)), values)

    def kernel(self, vector: FloatArray) -> dict[str, float]:
        """Names the values of one vector, ``d``."""
        return {name: float(v) for name, v in zip(self.names, vector, strict=True)}

    def vector(self, kernel: Mapping[str, float]) -> FloatArray:
        """Orders the values of one kernel, ``d``."""
        return np.array([kernel[name] for name in self.names], dtype=np.float64)

    def vectors(self, kernels: Sequence[Mapping[str, float]]) -> FloatArray:
        """Orders the values of n kernels, ``n x d``; n may be 0."""
        rows = [self.vector(kernel) for kernel in kernels]
        return np.array(rows, dtype=np.float64).reshape(-1, len(self.names))


@dataclass(frozen=True)
class SobolPhase:
    """The points of a study's first phase, a function of its definition alone.

    Trial number i of the phase gets point i, so it does not matter which worker takes it, nor how
    often a worker is killed. How long the phase lasts needs no trial either: feasibility is exact.

    Attributes:
        space: What is searched.
        feasibility: What may be trained.
        seed: Of the scrambling (Owen, 1998).
        sobol_trials: Points in any case.
        min_feasible: The phase goes on until so many of its points are feasible.
    """

    space: Space
    feasibility: Feasibility
    seed: int
    sobol_trials: int
    min_feasible: int

    def points(self, first: int, number: int) -> FloatArray:
        """Kernels ``first`` to ``first + number - 1`` of the sequence, ``number x d``."""
        sequence = qmc.Sobol(len(self.space.names), scramble=True, rng=self.seed)
        if first:
            sequence.fast_forward(first)
        # One at a time to spare a warning about balance that does not apply to a running sequence.
        return self.space.kernels(np.concatenate([sequence.random(1) for _ in range(number)]))

    @cached_property
    def length(self) -> int:
        """Trials of the phase.

        Raises:
            InputError: If the limits leave so little of the space that the phase would not end.
        """
        end, found = self.sobol_trials, 0
        sequence = qmc.Sobol(len(self.space.names), scramble=True, rng=self.seed)
        seen = np.zeros(0, dtype=bool)
        while len(seen) < MAX_SOBOL_TRIALS:
            seen = np.concatenate([seen, self._feasible(sequence.random(1024))])
            found = int(seen[:end].sum())
            if found >= self.min_feasible:
                return end
            reached = np.flatnonzero(np.cumsum(seen) >= self.min_feasible)
            if len(reached):
                return max(self.sobol_trials, int(reached[0]) + 1)
        raise InputError(
            f"search.min_feasible = {self.min_feasible} would take more than "
            f"{MAX_SOBOL_TRIALS:,} Sobol trials: {self.explain_infeasible()}"
        )

    def feasible_fraction(self, number: int = 2**14) -> float:
        """Estimates the share of the space that may be trained, from the first Sobol points."""
        sequence = qmc.Sobol(len(self.space.names), scramble=True, rng=self.seed)
        return float(self._feasible(sequence.random(number)).mean())

    def _feasible(self, unit: FloatArray) -> BoolArray:
        kernels = self.space.kernels(unit)
        return self.feasibility.feasible(self.space.architectural(kernels))

    def check_feasible(self) -> None:
        """Makes sure before the first trial that there is something to search.

        Raises:
            InputError: If none of 131,072 kernels is feasible, or too few are.
        """
        if self.feasible_fraction() == 0 and self.feasible_fraction(_PROBE) == 0:
            raise InputError(f"no kernel is feasible: {self.explain_infeasible()}")
        _ = self.length

    def explain_infeasible(self) -> str:
        """Says which limits reject how much, and what to do about it."""
        sequence = qmc.Sobol(len(self.space.names), scramble=True, rng=self.seed)
        kernels = self.space.kernels(sequence.random(_PROBE))
        verdicts = self.feasibility.check(self.space.architectural(kernels))
        shares = ", ".join(
            f"{reason} rejects {count / _PROBE:.1%}"
            for reason, count in sorted(verdicts.counts().items(), key=lambda item: -item[1])
        )
        return (
            f"of {_PROBE:,} kernels {verdicts.feasible.sum():,} satisfy the limits ({shares}); "
            "raise [limits] or change the ranges in [parameters]"
        )
