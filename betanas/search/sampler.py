"""Optuna's sampler of a study: Sobol points first, then the chosen strategy, nothing infeasible.

A proposal is a function of the database's content, the study's seed and the trial's number alone:
a worker that is killed and started again proposes the same kernel.
"""

import logging
from typing import Any

import numpy as np
from optuna import Study
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler
from optuna.trial import FrozenTrial

from betanas.errors import BetaNASError
from betanas.search.rules import ArchitectureRules, Rules
from betanas.search.situation import Situation
from betanas.search.space import SobolPhase, Space
from betanas.search.strategies import STRATEGIES, feasible_point
from betanas.trial import Phase

logger = logging.getLogger(__name__)

FALLBACK = "fallback"  # the user attribute that tells why a trial is a plain feasible Sobol point


class KernelSampler(BaseSampler):  # type: ignore[misc,unused-ignore]
    """Proposes feasible kernels for Optuna trials.

    Args:
        sobol: The first phase.
        seed: The study's seed.
        strategy: ``search.sampler``: what proposes after the first phase.
        rules: Exact knowledge about the space; None for the limits of the Sobol phase.

    Raises:
        InputError: For a strategy whose optional dependency is not installed.
    """

    def __init__(
        self, sobol: SobolPhase, seed: int, strategy: str = "gp", rules: Rules | None = None
    ) -> None:
        self._sobol = sobol
        self._space: Space = sobol.space
        self._rules = rules or ArchitectureRules(sobol.space, sobol.feasibility)
        self._seed = seed
        self._phase = Phase(strategy)
        self._strategy = STRATEGIES[strategy](self._space, seed)

    def phase(self, number: int) -> Phase:
        """Which phase a trial belongs to, by its number."""
        return Phase.SOBOL if number < self._sobol.length else self._phase

    def infer_relative_search_space(
        self, study: Study, trial: FrozenTrial
    ) -> dict[str, BaseDistribution]:
        """The declared space, whatever the trials so far look like."""
        return dict(self._space.distributions)

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """Proposes one whole kernel."""
        if self.phase(trial.number) is Phase.SOBOL:
            return self._space.kernel(self._sobol.points(trial.number, 1)[0])
        situation = Situation.of(study, trial, self._space, self._rules)
        rng = np.random.default_rng([self._seed, trial.number])
        kernel, trouble = self._strategy.propose(situation, rng)
        if kernel is None:
            kernel = feasible_point(situation, self._seed)
            logger.warning("trial %d is a feasible Sobol point: %s", trial.number, trouble)
            # The trial is still Optuna's here; its public view comes with the objective.
            study._storage.set_trial_user_attr(trial._trial_id, FALLBACK, trouble)  # noqa: SLF001
        return self._space.kernel(kernel)

    def sample_independent(
        self, study: Study, trial: FrozenTrial, name: str, distribution: BaseDistribution
    ) -> Any:
        """Never called for a declared parameter; there are no others."""
        raise BetaNASError(f"{name} is not a parameter of this study")
