"""Optuna's sampler of a study: Sobol points first, then the Gaussian process, nothing infeasible.

A proposal is a function of the database's content, the study's seed and the trial's number alone:
a worker that is killed and started again proposes the same kernel.
"""

import logging
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from optuna import Study
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler
from optuna.trial import FrozenTrial, TrialState
from optuna_integration import BoTorchSampler
from torch import Tensor

from betanas.architecture.beta import FloatArray
from betanas.architecture.decoding import decode
from betanas.architecture.limits import Feasibility
from betanas.errors import BetaNASError
from betanas.search.acquisition import feasible_kernels, maximize
from betanas.search.space import SobolPhase, Space
from betanas.search.surrogate import Features, Surrogate
from betanas.trial import Failure, Phase

logger = logging.getLogger(__name__)

_LEAST_OBSERVATIONS = 2  # for a Gaussian process; below, feasible points are drawn at random


class KernelSampler(BaseSampler):  # type: ignore[misc,unused-ignore]
    """Proposes feasible kernels for Optuna trials.

    Args:
        sobol: The first phase.
        seed: The study's seed.
    """

    def __init__(self, sobol: SobolPhase, seed: int) -> None:
        self._sobol = sobol
        self._space: Space = sobol.space
        self._feasibility: Feasibility = sobol.feasibility
        self._features = Features(self._space, self._feasibility)
        self._seed = seed

    def phase(self, number: int) -> Phase:
        """Which phase a trial belongs to, by its number."""
        return Phase.SOBOL if number < self._sobol.length else Phase.GP

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
        return self._propose(study, trial)

    def sample_independent(
        self, study: Study, trial: FrozenTrial, name: str, distribution: BaseDistribution
    ) -> Any:
        """Never called for a declared parameter; there are no others."""
        raise BetaNASError(f"{name} is not a parameter of this study")

    def _propose(self, study: Study, trial: FrozenTrial) -> dict[str, float]:
        rng = np.random.default_rng([self._seed, trial.number])
        others = [t for t in study.get_trials(deepcopy=False) if t.number != trial.number]
        free = {self._space.names[i] for i in self._space.free}
        search_space = {n: d for n, d in self._space.distributions.items() if n in free}

        def candidates(
            train_x: Tensor,
            train_obj: Tensor,
            con: Tensor | None,
            bounds: Tensor,
            pending_x: Tensor | None,
        ) -> Tensor:
            """BoTorchSampler's seam: observations in, one kernel out (``1 x free``)."""
            kernels, values = self._whole(train_x), train_obj[:, 0].numpy()
            pending = self._whole(pending_x) if pending_x is not None else kernels[:0]
            kernel = self._next(kernels, values, pending, self._failed(others), rng)
            return torch.from_numpy(kernel[None, self._space.free])

        sampler = BoTorchSampler(
            candidates_func=candidates, n_startup_trials=0, consider_running_trials=True
        )
        observed = [t for t in others if t.state == TrialState.COMPLETE]
        if len(observed) < _LEAST_OBSERVATIONS:
            return self._space.kernel(feasible_kernels(self._space, self._feasibility, 1, rng)[0])
        proposed = sampler.sample_relative(study, trial, search_space)
        fixed = {n: float(d.low) for n, d in self._space.distributions.items() if n not in free}
        return {name: float((proposed | fixed)[name]) for name in self._space.names}

    def _next(
        self,
        kernels: FloatArray,
        values: FloatArray,
        pending: FloatArray,
        failed: FloatArray,
        rng: np.random.Generator,
    ) -> FloatArray:
        """Fits, maximises, and takes the best kernel whose architecture is not measured yet."""
        known = np.concatenate([kernels, failed])
        told = np.concatenate([values, np.full(len(failed), values.min())])
        try:
            surrogate = Surrogate(self._features, known, told)
            if len(pending):  # the model believes its own prediction where others still train
                told = np.concatenate([told, surrogate.predict(pending)[0]])
                known = np.concatenate([known, pending])
                surrogate = Surrogate(self._features, known, told)
        except Exception as error:
            logger.warning("the Gaussian process did not fit (%s): a random point instead", error)
            return feasible_kernels(self._space, self._feasibility, 1, rng)[0]
        best = known[np.argsort(-told, kind="stable")[:8]]
        ranked = maximize(
            surrogate.log_expected_improvement, self._space, self._feasibility, best, rng
        )
        measured = {self._fingerprint(kernel) for kernel in known}
        for kernel in ranked:
            if self._fingerprint(kernel) not in measured:
                return np.asarray(kernel)
        return np.asarray(ranked[0])

    def _fingerprint(self, kernel: FloatArray) -> str:
        rules = self._feasibility
        named = self._space.kernel(kernel)
        return decode(rules.family, named, rules.limits.resolution, rules.num_classes).fingerprint

    def _whole(self, free_values: Tensor) -> FloatArray:
        """Completes values of the free parameters, ``n x free``, to kernels, ``n x d``."""
        kernels = np.repeat(self._space.low[None, :], len(free_values), axis=0)
        kernels[:, self._space.free] = free_values.numpy()
        return kernels

    def _failed(self, trials: Sequence[FrozenTrial]) -> FloatArray:
        """Kernels whose training failed, ``n x d``: the model learns them as bad ones."""
        rows = [
            self._space.vector(t.params)
            for t in trials
            if t.state == TrialState.FAIL
            and set(t.params) == set(self._space.names)
            and Failure(t.user_attrs.get("reason", Failure.CRASHED)).blames_kernel
        ]
        return np.array(rows).reshape(-1, len(self._space.names))
