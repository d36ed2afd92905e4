"""Optuna's sampler of a study: the opening first, then the chosen strategy, nothing infeasible.

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
from betanas.search.acquisitions import Acquisition
from betanas.search.candidates import CandidatesFunction
from betanas.search.prefilter import Prefilter
from betanas.search.problem import Problem
from betanas.search.rules import Rules
from betanas.search.situation import Situation
from betanas.search.strategies import feasible_point, make_strategy
from betanas.trial import Phase

logger = logging.getLogger(__name__)

FALLBACK = "fallback"  # the user attribute that tells why a trial is a plain feasible Sobol point


class KernelSampler(BaseSampler):  # type: ignore[misc,unused-ignore]
    """Proposes feasible kernels for Optuna trials.

    Args:
        problem: What is searched.
        strategy: ``search.sampler``: what proposes after the first phase; or a ``candidates_func``.
        acquisition: ``search.acquisition``, of the strategy ``botorch``; see ``make_strategy``.
        prefilter: Chooses among several of the strategy's proposals.

    Raises:
        InputError: For a strategy whose optional dependency is not installed, that cannot search
            the problem's space, or that has no such acquisition.
    """

    def __init__(
        self,
        problem: Problem[Rules],
        strategy: str | CandidatesFunction = "botorch",
        acquisition: Acquisition | None = None,
        prefilter: Prefilter | None = None,
    ) -> None:
        self._problem, self._prefilter = problem, prefilter
        # A Gaussian process by either of its names; a function of one's own is something else.
        names = {"botorch": Phase.GP}
        self._phase = Phase.BOTORCH
        if isinstance(strategy, str):
            self._phase = names.get(strategy) or Phase(strategy)
        self._strategy = make_strategy(strategy, problem, acquisition)

    def phase(self, number: int) -> Phase:
        """Which phase a trial belongs to, by its number."""
        if number < len(self._problem.start):
            return Phase.START
        return Phase.SOBOL if number < self._problem.opening_length else self._phase

    def learns(self, number: int) -> bool:
        """Whether a trial's proposal depends on other trials."""
        return self.phase(number) not in (Phase.START, Phase.SOBOL)

    def propose(self, study: Study, trial: FrozenTrial) -> tuple[dict[str, Any], str]:
        """One whole kernel; and, if the strategy had none, why it is a plain feasible point."""
        space, seed = self._problem.space, self._problem.seed
        if not self.learns(trial.number):
            return space.kernel(self._problem.opening_points(trial.number, 1)[0]), ""
        situation = Situation.of(study, trial, self._problem)
        rng = np.random.default_rng([seed, trial.number])
        if self._prefilter is None:
            kernel, trouble = self._strategy.propose(situation, rng)
        else:
            kernel, trouble = self._prefilter.propose(self._strategy, situation, rng)
        if kernel is not None:
            return space.kernel(kernel), ""
        logger.warning("trial %d is a feasible Sobol point: %s", trial.number, trouble)
        return space.kernel(feasible_point(situation, seed)), trouble

    def infer_relative_search_space(
        self, study: Study, trial: FrozenTrial
    ) -> dict[str, BaseDistribution]:
        """The declared space, whatever the trials so far look like."""
        return dict(self._problem.space.distributions)

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """Proposes one whole kernel."""
        kernel, trouble = self.propose(study, trial)
        if trouble:
            # The trial is still Optuna's here; its public view comes with the objective.
            study._storage.set_trial_user_attr(trial._trial_id, FALLBACK, trouble)  # noqa: SLF001
        return kernel

    def sample_independent(
        self, study: Study, trial: FrozenTrial, name: str, distribution: BaseDistribution
    ) -> Any:
        """Never called for a declared parameter; there are no others."""
        raise BetaNASError(f"{name} is not a parameter of this study")
