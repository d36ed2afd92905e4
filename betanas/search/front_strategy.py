"""``botorch`` with several objectives: the front's expected hypervolume improvement.

Accuracy and latency are what trials measure: each has BoTorch's Gaussian process, the latency on
its logarithm. Parameters, multiply-adds and activations are known exactly of any kernel, and are
inputs of the processes whose values the acquisition function takes as they are: log noisy expected
hypervolume improvement (Daulton et al., 2021, "Parallel Bayesian Optimization of Multiple Noisy
Objectives with Expected Hypervolume Improvement"; Ament et al., 2023). It integrates over the noise
of what was measured and knows what other workers train. The maximiser over feasible kernels is the
one that all our strategies share.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from betanas.arrays import FloatArray
from betanas.search.acquisition import Candidates, FeasiblePool, maximize
from betanas.search.botorch_strategy import LEAST_OBSERVATIONS, POOL, first_new
from betanas.search.front import as_points, non_dominated
from betanas.search.situation import Situation
from betanas.search.space import Space
from betanas.search.surrogate import InputScaling, rate

if TYPE_CHECKING:
    import torch
    from botorch.acquisition import AcquisitionFunction
    from botorch.models.model import Model

_SAMPLES = 32  # of the posterior at the measured kernels: each has a front of its own


class HypervolumeImprovement:
    """Log noisy expected hypervolume improvement, maximised over feasible kernels."""

    def __init__(self, space: Space, seed: int) -> None:
        self._space, self._pool = space, FeasiblePool(space, POOL, seed)

    def propose(
        self, situation: Situation, rng: np.random.Generator
    ) -> tuple[FloatArray | None, str]:
        """The kernel by which the model expects the front to grow most."""
        complete = len(situation.complete)
        if complete < LEAST_OBSERVATIONS:
            return None, f"{complete} complete trials are too few for a model"
        ranked = partial(self._ranked, situation, rng)
        return first_new(ranked, situation.rules, situation.known, rng)

    def _ranked(self, situation: Situation, rng: np.random.Generator, seed: int) -> Candidates:
        """Feasible kernels in falling order of the acquisition function."""
        from betanas.search.botorch_model import fit_model

        inputs = _Inputs(situation)
        observed = inputs(inputs.kernels, inputs.features)
        models = [
            fit_model(observed, inputs.outcomes[:, i], self._space.encoded_width)
            for i in range(inputs.outcomes.shape[1])
        ]
        pending = situation.pending
        waiting = (
            inputs(pending, situation.rules.assess(pending).features) if len(pending) else None
        )
        baseline = observed[: len(situation.kernels)]  # what has failed is on no front
        function = _improvement(models, inputs, baseline, waiting, seed)
        front = situation.kernels[non_dominated(situation.points)]
        return maximize(
            lambda kernels, features: rate(function, inputs(kernels, features)),
            self._space,
            situation.rules,
            self._pool(situation.rules),
            front[:64],
            rng,
        )[0]


class _Inputs:
    """What the models see of kernels: parameters, features, and last the known objectives.

    Attributes:
        kernels: Measured kernels, and those whose training has failed, ``n x d``.
        features: Theirs, ``n x c``.
        outcomes: The measured objectives of each, ``n x m``, more is better.
        known: Names of the objectives that are known without a trial, k of them.
        reference: Where the hypervolume counts from, ``m + k``: measured ones, then known ones.
    """

    def __init__(self, situation: Situation) -> None:
        rules, failed = situation.rules, situation.failed
        names = situation.problem.objectives
        self.kernels = np.concatenate([situation.kernels, failed])
        self.features = rules.assess(self.kernels).features
        self._rules, costs = rules, rules.costs(self.kernels)
        self.known = [name for name in names if name in costs]
        measured = [i for i, name in enumerate(names) if name not in costs]
        # A training that has failed is as bad as the worst that has not, in all that it measures.
        worst = np.repeat(situation.points.min(axis=0)[None, measured], len(failed), axis=0)
        self.outcomes = np.concatenate([situation.points[:, measured], worst])
        order = [*measured, *(names.index(name) for name in self.known)]
        self.reference = situation.reference[order]
        wide = self._with_known(self.kernels, self.features)
        self._scaling = InputScaling(situation.space, wide)
        self._low, self._width = wide.min(axis=0), self._scaling.width

    def __call__(self, kernels: FloatArray, features: FloatArray) -> torch.Tensor:
        """From kernels, ``n x d``, and features, ``n x c``, to inputs, ``n x (e + c + k)``."""
        import torch

        scaled = self._scaling(kernels, self._with_known(kernels, features))
        return torch.from_numpy(scaled).double()

    def objectives(self, samples: torch.Tensor, X: torch.Tensor | None) -> torch.Tensor:
        """Measured objectives, ``... x m``, as sampled; behind them the known ones."""
        import torch

        number = len(self.known)
        if not number:
            return samples
        assert X is not None  # noqa: S101 - BoTorch always has them here
        low = torch.from_numpy(self._low[-number:])
        width = torch.from_numpy(self._width[-number:])
        known = X[..., -number:] * width + low
        return torch.cat([samples, known.expand(*samples.shape[:-1], number)], dim=-1)

    def _with_known(self, kernels: FloatArray, features: FloatArray) -> FloatArray:
        """Features and, as ``front.as_points`` has them, the known objectives."""
        if not self.known:
            return features
        costs = self._rules.costs(kernels)
        table = np.column_stack([np.zeros(len(kernels)), *(costs[name] for name in self.known)])
        return np.column_stack([features, as_points(table)[:, 1:]])


def _improvement(
    models: list[Model],
    inputs: _Inputs,
    observed: torch.Tensor,
    pending: torch.Tensor | None,
    seed: int,
) -> AcquisitionFunction:
    """Log noisy expected hypervolume improvement on the front of what was measured.

    Args:
        models: One an objective that is measured.
        inputs: Knows the other objectives, and the reference point.
        observed: Inputs of the kernels that have values, ``n x (e + c + k)``.
        pending: Inputs of those in training, ``p x (e + c + k)``; None for none.
        seed: Of the posterior's samples.
    """
    import torch
    from botorch.acquisition.multi_objective import logei
    from botorch.acquisition.multi_objective.objective import GenericMCMultiOutputObjective
    from botorch.models import ModelListGP
    from botorch.sampling import SobolQMCNormalSampler

    # BoTorch would compile a C++ kernel in the midst of the first proposal: a minute for what takes
    # seconds, and a worker that is killed then leaves a lock that all others wait for.
    logei._load_attempted = True  # noqa: SLF001
    return logei.qLogNoisyExpectedHypervolumeImprovement(
        models[0] if len(models) == 1 else ModelListGP(*models),
        torch.from_numpy(inputs.reference),
        observed,
        sampler=SobolQMCNormalSampler(torch.Size([_SAMPLES]), seed=seed),
        objective=GenericMCMultiOutputObjective(inputs.objectives),
        X_pending=pending,
        prune_baseline=True,
    )
