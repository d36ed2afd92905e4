"""What a fit minimises, with its gradient in closed form: the numerics of the search that are ours.

Model, priors, bounds and L-BFGS are BoTorch's. This is the ``closure`` that it asks in place of
GPyTorch's automatic differentiation: the same numbers, for 200 values in 0.26 s of a processor
instead of 1.34, for ``betanas best`` and the report times eleven (benchmarks/README.md).
"""

from collections.abc import Sequence

import torch
from gpytorch.kernels import AdditiveKernel, Kernel
from gpytorch.likelihoods import Likelihood
from gpytorch.likelihoods.noise_models import HomoskedasticNoise
from gpytorch.mlls import ExactMarginalLogLikelihood
from gpytorch.models import ExactGP
from gpytorch.priors import LogNormalPrior
from linear_operator.utils.cholesky import psd_safe_cholesky

_LOG_2PI = 1.8378770664093453


class FitClosure:
    """Minus the log of likelihood times priors, over n, of a model of ``botorch_model.py``.

    Called, it returns the value and its gradients in the parameters that are learnt, in their order
    (Rasmussen and Williams, 2006, "Gaussian Processes for Machine Learning", eqs. 5.8 and 5.9).

    Args:
        mll: Whose model has a sum of scaled Matern 5/2 processes, log-normal priors, and a mean of
            which a constant is learnt.
    """

    def __init__(self, mll: ExactMarginalLogLikelihood) -> None:
        self._model = mll.model
        self._parameters = [p for p in mll.parameters() if p.requires_grad]

    def __call__(self) -> tuple[torch.Tensor, Sequence[torch.Tensor]]:
        """Value and gradients."""
        model, kernels = self._model, parts(self._model.covar_module)
        noise, constant = learnt_noise(model.likelihood), model.mean_module.constant
        found = [noise.noise, constant]
        priors = [noise.noise_prior, None]
        for kernel in kernels:
            found += [kernel.base_kernel.lengthscale, kernel.outputscale]
            priors += [kernel.base_kernel.lengthscale_prior, kernel.outputscale_prior]
        with torch.no_grad():
            value, gradients = self._likelihood(found)
            for i, (prior, own) in enumerate(zip(priors, found, strict=True)):
                if prior is not None:
                    density, slope = _log_normal(prior, own)
                    value, gradients[i] = value + density, gradients[i] + slope
        number = len(model.train_targets)
        shaped = [g.reshape(f.shape).div(-number) for g, f in zip(gradients, found, strict=True)]
        return value / -number, torch.autograd.grad(found, self._parameters, shaped)

    def _likelihood(self, found: Sequence[torch.Tensor]) -> tuple[torch.Tensor, list[torch.Tensor]]:
        """Log likelihood, and its gradients in noise, mean, and each part's scales and variance."""
        model, kernels = self._model, parts(self._model.covar_module)
        (inputs,), targets = model.train_inputs, model.train_targets
        scales, variances = found[2::2], found[3::2]
        scaled = [
            inputs[:, kernel.base_kernel.active_dims] / scale
            for kernel, scale in zip(kernels, scales, strict=True)
        ]
        shapes = [_matern(x) for x in scaled]
        covariance = torch.diag(model.likelihood.noise.expand(len(targets)))
        for variance, (correlation, _) in zip(variances, shapes, strict=True):
            covariance += variance * correlation
        factor = psd_safe_cholesky(covariance)
        inverse = torch.cholesky_inverse(factor)
        residual = targets - model.mean_module(inputs)
        weights = inverse @ residual
        value = -0.5 * (residual @ weights + len(targets) * _LOG_2PI)
        value -= factor.diagonal().log().sum()
        twice = torch.outer(weights, weights).sub_(inverse)  # twice the gradient in the covariance
        gradients = [0.5 * twice.trace(), weights.sum()]
        for x, scale, variance, (correlation, slope) in zip(
            scaled, scales, variances, shapes, strict=True
        ):
            # sum_ij shaped_ij (x_ik - x_jk)**2 / 2 for every k, without n x n x d differences
            shaped = slope.mul_(twice).mul_(variance)
            squares = shaped.sum(dim=1) @ x**2 - (x * (shaped @ x)).sum(dim=0)
            gradients += [squares / scale, 0.5 * (twice * correlation).sum()]
        return value, gradients


def parts(covariance: Kernel) -> Sequence[Kernel]:
    """The scaled processes whose sum a model's covariance is."""
    return list(covariance.kernels) if isinstance(covariance, AdditiveKernel) else [covariance]


def noisy_covariance(model: ExactGP) -> torch.Tensor:
    """Covariance of a model's n targets, their noise included, ``n x n``."""
    (inputs,) = model.train_inputs
    noise = model.likelihood.noise.expand(len(inputs))
    found: torch.Tensor = model.covar_module(inputs).to_dense() + torch.diag(noise)
    return found


def learnt_noise(likelihood: Likelihood) -> HomoskedasticNoise:
    """The module of the noise that all observations have."""
    return getattr(likelihood, "second_noise_covar", None) or likelihood.noise_covar


def _matern(scaled: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Matern 5/2 between scaled inputs, ``n x k``; and -2 times its derivative in r**2.

    Returns:
        Two matrices ``n x n``.
    """
    squares = (scaled**2).sum(dim=1)
    distance = torch.addmm(squares[:, None] + squares, scaled, scaled.T, alpha=-2)
    distance = distance.clamp_(min=0).fill_diagonal_(0).mul_(5).sqrt_()
    decay = torch.exp(-distance)
    slope = (1 + distance).mul_(decay)
    return distance.square_().mul_(decay).div_(3).add_(slope), slope.mul_(5 / 3)


def _log_normal(prior: LogNormalPrior, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Sum of the log densities of positive numbers, and its gradient in them."""
    off = (x.log() - prior.loc) / prior.scale
    density = -0.5 * (off**2 + _LOG_2PI) - torch.log(prior.scale * x)
    return density.sum(), -(1 + off / prior.scale) / x
