"""The Gaussian process over kernels: numerics only, nothing of Optuna.

Inputs are the free parameters on the unit cube and two things that the objective is known to depend
on, log num_params and log macs. Kernel and priors are BoTorch's defaults, whose length scales grow
with the dimension (Hvarfner et al., 2024, "Vanilla Bayesian Optimization Performs Great in High
Dimensions").
"""

import warnings
from dataclasses import dataclass

import numpy as np
import torch
from botorch.acquisition.analytic import LogExpectedImprovement
from botorch.exceptions import BotorchWarning
from botorch.fit import fit_gpytorch_mll
from botorch.models import SingleTaskGP
from gpytorch.mlls import ExactMarginalLogLikelihood
from torch import Tensor

from betanas.architecture.beta import FloatArray
from betanas.architecture.limits import Feasibility
from betanas.search.space import Space


@dataclass(frozen=True)
class Features:
    """From kernels to the Gaussian process's inputs.

    Attributes:
        space: What is searched.
        feasibility: What counts a kernel's parameters and multiply-adds.
    """

    space: Space
    feasibility: Feasibility

    def __call__(self, kernels: FloatArray) -> Tensor:
        """Maps kernels, ``n x d``, to inputs, ``n x (free + 2)``, each about [0, 1]."""
        costs = self.feasibility.check(kernels).complexities
        unit = self.space.unit(kernels)[:, self.space.free]
        scales = [np.log10(np.maximum(c, 1)) / 10 for c in (costs.num_params, costs.macs)]
        return torch.from_numpy(np.column_stack([unit, *scales]))


class Surrogate:
    """A Gaussian process fitted to measured accuracies.

    Args:
        features: From kernels to inputs.
        kernels: Measured kernels, ``n x d``, n >= 2.
        values: Their values, ``n``.
    """

    def __init__(self, features: Features, kernels: FloatArray, values: FloatArray) -> None:
        inputs = features(kernels)
        self._features = features
        # Bounds of the inputs come from the data: the cost features have no declared range.
        self._low = inputs.amin(dim=0)
        self._low[:-2] = 0.0
        self._width = (inputs.amax(dim=0) - self._low).clamp_min(1e-6)
        self._width[:-2] = 1.0
        self._mean, self._scale = float(np.mean(values)), float(np.std(values)) or 1.0
        targets = torch.from_numpy((values - self._mean) / self._scale)[:, None]
        self._model = SingleTaskGP(self._normalised(inputs), targets, outcome_transform=None)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", BotorchWarning)
            fit_gpytorch_mll(ExactMarginalLogLikelihood(self._model.likelihood, self._model))
        self._model.eval()
        self.incumbent = float(self.predict(kernels)[0].max())

    def _normalised(self, inputs: Tensor) -> Tensor:
        return (inputs - self._low) / self._width

    @torch.no_grad()
    def predict(self, kernels: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Posterior of the noise-free accuracy.

        Args:
            kernels: ``m x d``.

        Returns:
            Mean and standard deviation, ``m`` each, in the units of the values.
        """
        posterior = self._model.posterior(self._normalised(self._features(kernels)))
        mean = posterior.mean[:, 0].numpy() * self._scale + self._mean
        std = posterior.variance.clamp_min(0)[:, 0].sqrt().numpy() * self._scale
        return mean, std

    def log_expected_improvement(self, kernels: FloatArray) -> FloatArray:
        """Logarithm of the expected improvement on the best posterior mean of a measured kernel.

        The model's own incumbent instead of the best value, which noise has made look good
        (Ament et al., 2023, "Unexpected Improvements to Expected Improvement", eq. 9).

        Args:
            kernels: ``m x d``.

        Returns:
            ``m``, up to a constant.
        """
        acquisition = LogExpectedImprovement(
            self._model, best_f=(self.incumbent - self._mean) / self._scale
        )
        inputs = self._normalised(self._features(kernels))
        with torch.no_grad():
            return np.asarray(acquisition(inputs[:, None, :]).numpy())
