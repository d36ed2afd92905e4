"""BoTorch's Gaussian process over kernels: a process of the parameters plus one of the features.

Priors, transforms and the fit are BoTorch's (Hvarfner et al., 2024, "Vanilla Bayesian Optimization
Performs Great in High Dimensions"). Ours are the sum, and a posterior that is computed at once for
many candidates: an acquisition function asks about thousands of them, each on its own.
"""

import math
from typing import Any

import numpy as np
import torch
from botorch.fit import fit_gpytorch_mll
from botorch.models import SingleTaskGP
from botorch.models.transforms import Standardize
from botorch.models.utils.gpytorch_modules import (
    get_covar_module_with_dim_scaled_prior,
    get_gaussian_likelihood_with_lognormal_prior,
)
from botorch.posteriors import GPyTorchPosterior
from gpytorch.distributions import MultivariateNormal
from gpytorch.kernels import Kernel, ScaleKernel
from gpytorch.likelihoods import FixedNoiseGaussianLikelihood
from gpytorch.means import Mean
from gpytorch.mlls import ExactMarginalLogLikelihood
from gpytorch.priors import LogNormalPrior
from gpytorch.settings import max_cholesky_size
from linear_operator import to_linear_operator

from betanas.arrays import FloatArray
from betanas.search.likelihood import FitClosure, learnt_noise, parts

# L-BFGS's iterations from the priors' modes, and from an earlier fit. Until nothing changes any
# more it took 13 s for 200 values in 25 inputs; the likelihood hardly changes after some tens.
_COLD_STEPS = 60
_WARM_STEPS = 20
_FEW = 256  # values; with more a warm fit has fewer iterations, each of which costs ever more
_EXACT = 10_000  # observations; beyond 800 GPyTorch iterates, in five times the seconds (840)


class KernelGP(SingleTaskGP):  # type: ignore[misc,unused-ignore]
    """A ``SingleTaskGP`` that is asked about many batches which differ in one point only.

    BoTorch computes the posterior of each batch on its own, with a copy of all that was observed;
    here it is one posterior of all batches' points, taken apart: the same numbers, six times as
    fast for 512 candidates beside 200 observations.
    """

    @property
    def noise_std(self) -> float:
        """Learnt standard deviation of one measurement, in the units of the values."""
        variance = float(learnt_noise(self.likelihood).noise)
        return float(variance**0.5 * self.outcome_transform.stdvs)

    @property
    def scales(self) -> FloatArray:
        """Length scales of the first group of inputs, the parameters if there are any, ``e``."""
        first = parts(self.covar_module)[0].base_kernel.lengthscale
        return np.asarray(first.detach().numpy()[0])

    def posterior(self, X: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
        """As ``SingleTaskGP.posterior``, of ``m x q x d`` or any other inputs."""
        more = any(given is not None and given is not False for given in (*args, *kwargs.values()))
        own = None if more else _own(X)
        with max_cholesky_size(_EXACT):
            if own is None:
                return super().posterior(X, *args, **kwargs)
            return self._taken_apart(X, own)

    def _taken_apart(self, X: torch.Tensor, own: int) -> GPyTorchPosterior:
        """The posterior of m batches, ``m x q x d``, that share all rows but the one ``own``."""
        m, q, _ = X.shape
        shared = [row for row in range(q) if row != own]
        s = len(shared)
        points = torch.cat([X[0, shared], X[:, own]])
        if self.prediction_strategy is None:
            super().posterior(points[:1])
        known, caches = self.train_inputs[0], self.prediction_strategy
        # Rasmussen and Williams, 2006, eqs. 2.25 and 2.26, with what GPyTorch keeps of K + noise
        prior = self.covar_module(points, known).to_dense()
        half = prior @ caches.covar_cache
        mean = self.mean_module(points) + prior @ caches.mean_cache
        variance = self.covar_module(points[s:], diag=True) - (half[s:] ** 2).sum(dim=1)
        joint = self.covar_module(points[:s], points).to_dense() - half[:s] @ half.T
        means = torch.cat([mean[:s].expand(m, s), mean[s:, None]], dim=1)
        cross = joint[:, s:].T
        above = torch.cat([joint[:, :s].expand(m, s, s), cross[:, :, None]], dim=2)
        below = torch.cat([cross, variance[:, None]], dim=1)[:, None, :]
        order = torch.tensor([*range(own), q - 1, *range(own, q - 1)])  # the own row, moved back
        covariances = torch.cat([above, below], dim=1)[:, order][:, :, order]
        # A plain tensor would be factorised here, which a candidate beside a shared row defies.
        lazy = to_linear_operator(covariances)
        posterior = GPyTorchPosterior(MultivariateNormal(means[:, order], lazy))
        return self.outcome_transform.untransform_posterior(posterior)


def _own(X: torch.Tensor) -> int | None:
    """The row in which m batches, ``m x q x d``, differ; None if there is no such one."""
    if X.dim() != 3 or len(X) == 1:
        return None
    differ = (X[:1] != X).any(dim=2).any(dim=0)
    return None if differ.sum() > 1 else int(differ.int().argmax())


def fit_model(
    inputs: torch.Tensor,
    values: FloatArray,
    parameters: int,
    start: SingleTaskGP | None = None,
    stds: FloatArray | None = None,
    mean: Mean | None = None,
) -> KernelGP:
    """Fits BoTorch's Gaussian process with its own priors.

    Args:
        inputs: ``n x (e + c)`` float64, each about [0, 1]: encoded parameters, then features.
        values: ``n``.
        parameters: How many of the inputs are parameters, e.
        start: An earlier fit of as many inputs, where this one begins; None for the priors' modes.
        stds: Standard deviations of values beside the noise that all have, ``n``; None for none.
        mean: A ``ConstantMean``, or what adds to one; None for a constant.
    """
    targets = torch.from_numpy(np.asarray(values, dtype=np.float64)).unsqueeze(1)
    model = KernelGP(
        inputs,
        targets,
        covar_module=_covariance(parameters, inputs.shape[1]),
        mean_module=mean,
        likelihood=_likelihood(targets, stds),
        outcome_transform=Standardize(m=1),
    )
    if start is not None:
        with torch.no_grad():
            for parameter, began in zip(model.parameters(), start.parameters(), strict=True):
                parameter.copy_(began)
    steps = _COLD_STEPS if start is None else max(3, _WARM_STEPS * _FEW // max(_FEW, len(targets)))
    options = {"maxiter": steps, "ftol": 1e-6, "gtol": 1e-3}
    mll = ExactMarginalLogLikelihood(model.likelihood, model)
    fit_gpytorch_mll(mll, closure=FitClosure(mll), optimizer_kwargs={"options": options})
    return model


def _likelihood(
    targets: torch.Tensor, stds: FloatArray | None
) -> FixedNoiseGaussianLikelihood | None:
    """Noise of single values beside that which all have; None, for BoTorch's own, for none."""
    if stds is None or not stds.any():
        return None
    noise = get_gaussian_likelihood_with_lognormal_prior().noise_covar
    return FixedNoiseGaussianLikelihood(
        torch.from_numpy(stds / float(targets.std())) ** 2,
        learn_additional_noise=True,
        noise_prior=noise.noise_prior,
        noise_constraint=noise.raw_noise_constraint,
    )


def _covariance(parameters: int, width: int) -> Kernel:
    """A Matern process of each group of inputs: the parameters, and what comes after them."""
    groups = [g for g in (list(range(parameters)), list(range(parameters, width))) if g]
    parts = []
    for group in groups:
        matern = get_covar_module_with_dim_scaled_prior(
            ard_num_dims=len(group), active_dims=group, use_rbf_kernel=False
        )
        # Without a prior the part that explains less vanishes, and the fit does not end.
        prior = LogNormalPrior(-math.log(len(groups)), 1.0)
        part = ScaleKernel(matern, outputscale_prior=prior)
        part.outputscale = 1 / len(groups)
        parts.append(part)
    return parts[0] if len(parts) == 1 else parts[0] + parts[1]
