"""A search problem as one object: what is searched, what is allowed, and how the search opens."""

from dataclasses import dataclass
from functools import cached_property
from typing import Generic, TypeVar

import numpy as np
from scipy.stats import qmc

from betanas.arrays import BoolArray, FloatArray, IntArray
from betanas.errors import InputError
from betanas.parameters import Real
from betanas.search.rules import Rules
from betanas.search.space import Space

MAX_SOBOL_TRIALS = 20_000
_SPARED = 3  # feasible points of the first phase, by a kernel of a source
GRID_STEP = 0.05
_PROBE = 2**17  # kernels to try before saying that nothing is feasible

R_co = TypeVar("R_co", bound=Rules, covariant=True)


@dataclass(frozen=True, eq=False)
class Source:
    """What another study has measured of a problem's kernels; some may lie outside its space.

    Attributes:
        kernels: ``n x d``; a choice is one of the options that the space has.
        values: Of whatever mean and scale, more is better, ``n``.
    """

    kernels: FloatArray
    values: FloatArray


@dataclass(frozen=True)
class Problem(Generic[R_co]):
    """Space, exact rules, seed, and how a search opens: all that strategies share.

    It opens with kernels that are named, then a first phase of Sobol points, drawn by the priors of
    parameters that have one (shares of the space are counted without them). Trial number i gets
    the i-th of them, so it does not matter which worker takes it, nor how often a worker is killed.
    How long the phase lasts needs no trial either: the rules are exact.

    Attributes:
        space: What is searched.
        rules: What may be trained.
        seed: Of the search; the first phase's scrambling too (Owen, 1998).
        sobol_trials: Points of the first phase in any case.
        min_feasible: It goes on until so many of its points are feasible.
        start: Kernels before the first point, each ``d``; they are rejected like any others.
        objectives: Names of a trial's values, the accuracy first: that is to rise, all others, of
            which the rules know some (``Rules.costs``), to fall.
        source: Of whose values the strategy's model guesses those here; None for none.
        given: How many of ``start`` are the source's. Each spares the first phase three feasible
            points, the last ones: with a quarter of them given, half of a phase of half the length
            is the source's.
        grid_step: Between neighbours of the strategy ``grid``.
    """

    space: Space
    rules: R_co
    seed: int
    sobol_trials: int
    min_feasible: int
    start: tuple[tuple[float, ...], ...] = ()
    objectives: tuple[str, ...] = ("accuracy",)
    source: Source | None = None
    given: int = 0
    grid_step: float = GRID_STEP

    def sobol_points(self, first: int, number: int) -> FloatArray:
        """Kernels ``first`` to ``first + number - 1`` of the sequence, ``number x d``."""
        sequence = self._sequence()
        if first:
            sequence.fast_forward(first)
        # One at a time to spare a warning about balance that does not apply to a running sequence.
        points = [sequence.random(1) for _ in range(number)]
        unit = np.concatenate([np.zeros((0, len(self.space.names))), *points])
        return self.space.kernels(self.space.by_prior(unit))

    def opening_points(self, first: int, number: int) -> FloatArray:
        """Kernels of trials ``first`` to ``first + number - 1`` of the opening, ``number x d``."""
        end = first + number
        named = np.array(self.start[first:end], dtype=np.float64)
        before = max(first - len(self.start), 0)
        points = self.sobol_points(before, number - len(named))
        return np.concatenate([named.reshape(-1, len(self.space.names)), points])

    @property
    def opening_length(self) -> int:
        """Trials before the strategy proposes: those that are named, and the first phase."""
        return len(self.start) + self.sobol_length

    @cached_property
    def sobol_length(self) -> int:
        """Trials of the first phase.

        Raises:
            InputError: If the rules leave so little of the space that the phase would not end.
        """
        if not self.given:
            return self._phase[0]
        feasible = self._phase[1]
        return int(feasible[max(len(feasible) - _SPARED * self.given, 1) - 1]) + 1

    @property
    def most_given(self) -> int:
        """How many kernels of a source may be tried first."""
        return len(self._phase[1]) // (_SPARED + 1)

    @cached_property
    def _phase(self) -> tuple[int, IntArray]:
        """Points of the whole first phase, and which of them are feasible."""
        end, sequence = self.sobol_trials, self._sequence()
        seen = np.zeros(0, dtype=bool)
        while len(seen) < max(end, MAX_SOBOL_TRIALS):
            drawn = self.space.by_prior(sequence.random(1024))
            seen = np.concatenate([seen, self._feasible(drawn)])
            enough = int(np.searchsorted(np.cumsum(seen), self.min_feasible)) + 1
            if len(seen) >= max(end, enough):
                end = max(end, enough if self.min_feasible else 0)
                return end, np.flatnonzero(seen[:end])
        raise InputError(
            f"search.min_feasible = {self.min_feasible} would take more than "
            f"{MAX_SOBOL_TRIALS:,} Sobol trials: {self._explain_infeasible()}"
        )

    def feasible_fraction(self, number: int = 2**14) -> float:
        """Estimates the share of the space that may be trained, from the first Sobol points."""
        return float(self._feasible(self._sequence().random(number)).mean())

    def feasible_kernels(self, number: int) -> FloatArray:
        """The feasible ones among the first Sobol points, ``m x d`` with m <= number."""
        kernels = self.space.kernels(self._sequence().random(number))
        return np.asarray(kernels[self.rules.assess(kernels).feasible])

    def check_feasible(self) -> None:
        """Makes sure before the first trial that there is something to search.

        Raises:
            InputError: If none of 131,072 kernels is feasible, or too few are.
        """
        if self.feasible_fraction() == 0 and self.feasible_fraction(_PROBE) == 0:
            raise InputError(f"no kernel is feasible: {self._explain_infeasible()}")
        _ = self.sobol_length

    def _explain_infeasible(self) -> str:
        """Says which limits reject how much, and what to do about it."""
        kernels = self.space.kernels(self._sequence().random(_PROBE))
        feasible = int(self.rules.assess(kernels).feasible.sum())
        shares = ", ".join(
            f"{reason} rejects {count / _PROBE:.1%}"
            for reason, count in sorted(
                self.rules.rejections(kernels).items(), key=lambda item: -item[1]
            )
        )
        return (
            f"of {_PROBE:,} kernels {feasible:,} satisfy the limits ({shares}); "
            "raise [limits] or change the ranges"
            f"{' or priors' * self._has_priors} in [parameters]"
        )

    @property
    def _has_priors(self) -> bool:
        return any(isinstance(p, Real) and p.prior is not None for p in self.space.parameters)

    def _sequence(self) -> qmc.Sobol:
        return qmc.Sobol(len(self.space.names), scramble=True, rng=self.seed)

    def _feasible(self, unit: FloatArray) -> BoolArray:
        return self.rules.assess(self.space.kernels(unit)).feasible
