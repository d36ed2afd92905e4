"""``search.sampler = "botorch"``: BoTorch's model and acquisition function over our feasible set.

The model is a ``SingleTaskGP`` whose covariance is the sum of a process of the parameters and one
of the features; the acquisition function is log noisy expected improvement (Ament et al., 2023,
"Unexpected Improvements to Expected Improvement for Bayesian Optimization"), which integrates over
the noise of what was measured and knows what other workers train. What is ours is the maximiser:
it proposes feasible kernels only.
"""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING

import numpy as np

from betanas.arrays import FloatArray
from betanas.search.acquisition import Candidates, feasible_pool, maximize
from betanas.search.situation import Situation
from betanas.search.space import Space
from betanas.search.surrogate import InputScaling, one_thread

if TYPE_CHECKING:
    from botorch.acquisition import AcquisitionFunction
    from botorch.models import SingleTaskGP

POOL = 1024  # feasible kernels from all over the space: BoTorch takes 0.1 ms for each
_LEAST_OBSERVATIONS = 2
_CHUNK = 512  # kernels that are scored at once
_SAMPLES = 64  # of the posterior at the measured kernels


class NoisyExpectedImprovement:
    """``botorch``: log noisy expected improvement, maximised over feasible kernels."""

    def __init__(self, space: Space, seed: int) -> None:
        self._space, self._seed = space, seed
        self._pool: Candidates | None = None
        self._rules: object = None

    def propose(
        self, situation: Situation, rng: np.random.Generator
    ) -> tuple[FloatArray | None, str]:
        """The kernel of which the model expects most."""
        complete = len(situation.complete)
        if complete < _LEAST_OBSERVATIONS:
            return None, f"{complete} complete trials are too few for a model"
        if self._pool is None or self._rules != situation.rules:
            self._rules = situation.rules
            self._pool = feasible_pool(self._space, situation.rules, POOL, self._seed)
        try:
            with one_thread(), warnings.catch_warnings():
                warnings.simplefilter("ignore")
                import torch

                seed = int(rng.integers(2**31))
                # BoTorch draws from torch's global generator; a proposal must not depend on it.
                with torch.random.fork_rng(devices=[]):
                    torch.manual_seed(seed)
                    found = self._ranked(situation, self._pool, rng, seed)
        except (ArithmeticError, RuntimeError, ValueError) as error:
            return None, f"BoTorch's model did not fit: {str(error).splitlines()[0]}"
        for kernel in found.kernels:
            if situation.rules.identity(kernel) not in situation.known:
                return np.asarray(kernel), ""
        return None, "all candidates are known or in training"

    def _ranked(
        self, situation: Situation, pool: Candidates, rng: np.random.Generator, seed: int
    ) -> Candidates:
        """Feasible kernels in falling order of the acquisition function."""
        import torch

        rules, failed = situation.rules, situation.failed
        kernels = np.concatenate([situation.kernels, failed])
        values = np.concatenate(
            [situation.values, np.full(len(failed), situation.values.min(initial=np.inf))]
        )
        features = rules.assess(kernels).features
        scaling = InputScaling(self._space, features)

        def tensor(some: FloatArray, with_features: FloatArray) -> torch.Tensor:
            return torch.from_numpy(scaling(some, with_features)).double()

        model = fit_model(tensor(kernels, features), values, self._space.encoded_width)
        pending = situation.pending
        waiting = tensor(pending, rules.assess(pending).features) if len(pending) else None
        function = noisy_improvement(model, tensor(kernels, features), waiting, seed)

        def score(some: FloatArray, with_features: FloatArray) -> FloatArray:
            with torch.no_grad():
                parts = torch.split(tensor(some, with_features).unsqueeze(1), _CHUNK)
                return np.concatenate([function(part).numpy() for part in parts])

        best = kernels[np.argsort(-values, kind="stable")[:8]]
        return maximize(score, self._space, rules, pool, best, rng)[0]


def fit_model(inputs: torch.Tensor, values: FloatArray, parameters: int) -> SingleTaskGP:
    """Fits BoTorch's Gaussian process with its own priors.

    Args:
        inputs: ``n x (e + c)`` float64, each about [0, 1]: encoded parameters, then features.
        values: ``n``.
        parameters: How many of the inputs are parameters, e.
    """
    import torch
    from botorch.fit import fit_gpytorch_mll
    from botorch.models import SingleTaskGP
    from botorch.models.transforms import Standardize
    from botorch.models.utils.gpytorch_modules import get_covar_module_with_dim_scaled_prior
    from gpytorch.kernels import ScaleKernel
    from gpytorch.mlls import ExactMarginalLogLikelihood

    width = inputs.shape[1]
    groups = [list(range(parameters)), list(range(parameters, width))]
    parts = [
        ScaleKernel(
            get_covar_module_with_dim_scaled_prior(
                ard_num_dims=len(group), active_dims=group, use_rbf_kernel=False
            )
        )
        for group in groups
        if group
    ]
    covariance = parts[0] if len(parts) == 1 else parts[0] + parts[1]
    targets = torch.from_numpy(np.asarray(values, dtype=np.float64)).unsqueeze(1)
    model = SingleTaskGP(
        inputs, targets, covar_module=covariance, outcome_transform=Standardize(m=1)
    )
    fit_gpytorch_mll(ExactMarginalLogLikelihood(model.likelihood, model))
    return model


def noisy_improvement(
    model: SingleTaskGP, observed: torch.Tensor, pending: torch.Tensor | None, seed: int
) -> AcquisitionFunction:
    """Log noisy expected improvement on the best of what was measured, ``n x (e + c)``.

    Args:
        model: The fitted process.
        observed: Inputs of the measured kernels.
        pending: Inputs of those in training, ``p x (e + c)``; None for none.
        seed: Of the posterior's samples.
    """
    import torch
    from botorch.acquisition.logei import qLogNoisyExpectedImprovement
    from botorch.sampling import SobolQMCNormalSampler

    sampler = SobolQMCNormalSampler(torch.Size([_SAMPLES]), seed=seed)
    return qLogNoisyExpectedImprovement(
        model, observed, sampler=sampler, X_pending=pending, prune_baseline=True
    )


if TYPE_CHECKING:
    import torch
