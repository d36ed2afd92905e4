"""The next kernel to train, from all that is measured: a pure function, nothing of Optuna."""

from dataclasses import dataclass, field

import numpy as np

from betanas.arrays import FloatArray
from betanas.search.acquisition import Candidates, feasible_pool, maximize
from betanas.search.gaussian_process import Hyperparameters
from betanas.search.rules import Rules
from betanas.search.space import Space
from betanas.search.surrogate import Observations, Surrogate, one_thread

POOL = 4096  # feasible kernels from all over the space
_COLD_EVERY = 16  # observations, at least, between two fits from the prior


@dataclass(frozen=True)
class Evidence:
    """What is known when a kernel is wanted; in the order of the trials' numbers.

    Attributes:
        kernels: Measured ones, ``n x d``.
        values: Their values, ``n``.
        stds: Standard deviations of the values beside the noise that all have, ``n``.
        pending: Kernels that are being trained, ``p x d``.
    """

    kernels: FloatArray
    values: FloatArray
    stds: FloatArray
    pending: FloatArray


@dataclass
class Proposer:
    """Proposes kernels by log expected improvement.

    It keeps what it has computed, but only what it could compute again from the same evidence.

    Attributes:
        space: The ranges.
        rules: What is feasible.
        seed: The study's.
    """

    space: Space
    rules: Rules
    seed: int
    _pool: Candidates | None = field(default=None, init=False, repr=False)
    _warm: dict[bytes, Hyperparameters] = field(default_factory=dict, init=False, repr=False)

    def pool(self) -> Candidates:
        """Feasible kernels from all over the space, the same ones for every proposal."""
        if self._pool is None:
            self._pool = feasible_pool(self.space, self.rules, POOL, self.seed)
        return self._pool

    def propose(self, evidence: Evidence, rng: np.random.Generator) -> FloatArray:
        """The kernel to train next, ``d``.

        Raises:
            ArithmeticError, LinAlgError, ValueError: If the model cannot be fitted.
        """
        with one_thread():
            return self._propose(evidence, rng)

    def _propose(self, evidence: Evidence, rng: np.random.Generator) -> FloatArray:
        surrogate = self.fit(evidence)
        if len(evidence.pending):
            features = self.rules.assess(evidence.pending).features
            surrogate.fantasize(evidence.pending, features)
        order = np.argsort(-evidence.values, kind="stable")[:8]
        found, values = maximize(
            surrogate.log_expected_improvement,
            self.space,
            self.rules,
            self.pool(),
            evidence.kernels[order],
            rng,
            surrogate.log_expected_improvement_gradient,
        )
        return self._first_new(surrogate, evidence, found, values)

    def fit(self, evidence: Evidence) -> Surrogate:
        """The model of the measured values, started from an earlier fit's hyperparameters."""
        observed = self.observe(evidence)
        # The larger the database, the dearer a fit and the less 16 observations change it.
        every = max(_COLD_EVERY, 2 ** (len(evidence.values).bit_length() - 4))
        known = len(evidence.values) // every * every
        start = None
        if 0 < known < len(evidence.values):
            start = self._start(observed.take(slice(known)))
        return Surrogate(self.space, observed, start)

    def observe(self, evidence: Evidence) -> Observations:
        """What is measured, with the kernels' features."""
        features = self.rules.assess(evidence.kernels).features
        return Observations(evidence.kernels, features, evidence.values, evidence.stds)

    def _start(self, observed: Observations) -> Hyperparameters:
        key = b"".join(a.tobytes() for a in (observed.kernels, observed.values, observed.stds))
        if key not in self._warm:
            self._warm = {key: Surrogate(self.space, observed).hyperparameters}
        return self._warm[key]

    def _first_new(
        self,
        surrogate: Surrogate,
        evidence: Evidence,
        found: Candidates,
        values: FloatArray,
    ) -> FloatArray:
        """The best candidate that is no duplicate, or a duplicate that is worth a replicate."""
        identity = self.rules.identity
        pending = {identity(kernel) for kernel in evidence.pending}
        measured = {identity(kernel) for kernel in evidence.kernels}
        best, best_value = -1, -np.inf
        for i, kernel in enumerate(found.kernels):
            value = values[i]
            if value <= best_value:
                break
            this = identity(kernel)
            if this in pending:
                continue
            if this in measured:
                one = found.take(slice(i, i + 1))
                value += surrogate.log_replicate_factor(one.kernels, one.features)[0]
            if value > best_value:
                best, best_value = i, value
        if best < 0:
            raise ArithmeticError("all candidates are being trained by other workers")
        return np.asarray(found.kernels[best])
