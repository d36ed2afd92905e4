"""A Gaussian process in closed form: likelihood, its gradient, posterior.

One exact process with one noise level and at most some thousand observations needs no automatic
differentiation: a fit from 200 observations takes some tens of milliseconds this way. The model
and its priors are BoTorch's defaults, whose length scales grow with the dimension (Hvarfner et
al., 2024, "Vanilla Bayesian Optimization Performs Great in High Dimensions"); formulas are those of
Rasmussen and Williams, 2006, "Gaussian Processes for Machine Learning".
"""

from dataclasses import dataclass

import numpy as np
from scipy.linalg import cho_factor, cho_solve, solve_triangular
from scipy.linalg.lapack import dpotri
from scipy.optimize import minimize

from betanas.architecture.beta import FloatArray

_LEAST_NOISE = 1e-5  # variance, of standardised values
_NOISE_PRIOR = (-4.0, 1.0)  # mean and deviation of log(noise variance)
_SCALE_STD = float(np.sqrt(3.0))  # prior deviation of each log length scale (Hvarfner et al.)
_BOUNDS = (np.log(0.02), np.log(100.0))  # of log(length scale) on the unit cube
_SQRT5 = float(np.sqrt(5.0))


@dataclass(frozen=True)
class Hyperparameters:
    """What a fit determines.

    Attributes:
        log_scales: log length scale of each input, ``d``.
        log_signal: log variance of the process.
        log_noise: log variance of an observation's noise.
    """

    log_scales: FloatArray
    log_signal: float
    log_noise: float

    @classmethod
    def prior_mode(cls, scale_means: FloatArray) -> "Hyperparameters":
        """Where a fit starts that knows nothing better than the prior; see ``fit``."""
        return cls(scale_means - _SCALE_STD**2 / 2, 0.0, _NOISE_PRIOR[0])

    def vector(self) -> FloatArray:
        """All of them, ``d + 2``."""
        return np.concatenate([self.log_scales, [self.log_signal, self.log_noise]])

    @classmethod
    def of(cls, vector: FloatArray) -> "Hyperparameters":
        """The inverse of ``vector``."""
        return cls(vector[:-2].copy(), float(vector[-2]), float(vector[-1]))


def scale_prior_mean(dimension: int) -> float:
    """Prior mean of each log length scale where ``dimension`` inputs matter alike (Hvarfner)."""
    return float(np.sqrt(2.0) + np.log(dimension) / 2)


def _correlation(first: FloatArray, second: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Matern 5/2 of scaled inputs, ``n x d`` and ``m x d``; and -2 times its slope in r**2.

    Returns:
        Two matrices ``n x m``.
    """
    squared = np.sum(first**2, 1)[:, None] + np.sum(second**2, 1)[None, :] - 2 * first @ second.T
    distance = _SQRT5 * np.sqrt(np.maximum(squared, 0.0))
    decay = np.exp(-distance)
    return (1 + distance + distance**2 / 3) * decay, (5 / 3) * (1 + distance) * decay


def fit(
    inputs: FloatArray,
    targets: FloatArray,
    scale_means: FloatArray,
    start: Hyperparameters,
    steps: int,
) -> "Hyperparameters":
    """Maximises the marginal likelihood times the priors by L-BFGS.

    Args:
        inputs: ``n x d``, each about [0, 1].
        targets: Standardised values, ``n``.
        scale_means: Prior means of the log length scales, ``d``.
        start: Where to begin.
        steps: Iterations at most.
    """
    dimension = inputs.shape[1]
    bounds = [_BOUNDS] * dimension + [
        (np.log(0.05), np.log(20.0)),
        (np.log(_LEAST_NOISE), np.log(2.0)),
    ]
    found = minimize(
        _negative_posterior,
        start.vector(),
        args=(inputs, targets, scale_means),
        jac=True,
        method="L-BFGS-B",
        bounds=bounds,
        options={"maxiter": steps, "ftol": 1e-6, "gtol": 1e-3},
    )
    return Hyperparameters.of(found.x)


def _negative_posterior(
    vector: FloatArray, inputs: FloatArray, targets: FloatArray, scale_means: FloatArray
) -> tuple[float, FloatArray]:
    """Minus the log of likelihood times priors, and its gradient, ``d + 2`` (R&W, eq. 5.9)."""
    h = Hyperparameters.of(vector)
    number, dimension = inputs.shape
    scaled = inputs * np.exp(-h.log_scales)
    correlation, slope = _correlation(scaled, scaled)
    signal, noise = np.exp(h.log_signal), np.exp(h.log_noise)
    covariance = signal * correlation
    covariance[np.diag_indices(number)] += noise + 1e-8
    factor, _ = cho_factor(covariance, lower=True)
    inverse, _ = dpotri(factor, lower=1)
    inverse = np.tril(inverse) + np.tril(inverse, -1).T
    ones = inverse.sum(axis=1)
    weights = inverse @ targets
    weights -= ones * (ones @ targets) / ones.sum()  # of targets less their mean
    value = 0.5 * weights @ targets + np.log(np.diag(factor)).sum()
    outer = np.outer(weights, weights) - inverse  # twice the gradient in the covariance
    shaped = outer * slope * signal
    rows = shaped.sum(axis=1)
    # sum_ij shaped_ij (x_ik - x_jk)**2 for every k, without the n x n x d differences
    squares = 2 * (rows @ scaled**2 - np.einsum("ik,ik->k", scaled, shaped @ scaled))
    gradient = np.concatenate(
        [
            -0.5 * squares,
            [-0.5 * signal * np.sum(outer * correlation), -0.5 * noise * np.trace(outer)],
        ]
    )
    centres = np.concatenate([scale_means, [0.0, _NOISE_PRIOR[0]]])
    widths = np.concatenate([np.full(dimension, _SCALE_STD), [1.0, _NOISE_PRIOR[1]]])
    # Densities of log-normal variables in the variables themselves, as in GPyTorch.
    flat = np.concatenate([np.ones(dimension), [0.0, 1.0]])
    off = (vector - centres) / widths
    value += 0.5 * off @ off + flat @ vector
    return float(value), gradient + off / widths + flat


class GaussianProcess:
    """A Gaussian process given observations and hyperparameters; a constant mean is estimated.

    Args:
        inputs: ``n x d``.
        targets: ``n``.
        hyperparameters: From ``fit``.
    """

    def __init__(
        self, inputs: FloatArray, targets: FloatArray, hyperparameters: Hyperparameters
    ) -> None:
        self.hyperparameters = h = hyperparameters
        self._scaled = inputs * np.exp(-h.log_scales)
        self._signal, self.noise = float(np.exp(h.log_signal)), float(np.exp(h.log_noise))
        covariance = self._signal * _correlation(self._scaled, self._scaled)[0]
        covariance[np.diag_indices(len(inputs))] += self.noise + 1e-8
        self._factor = cho_factor(covariance, lower=True)
        ones = cho_solve(self._factor, np.ones(len(inputs)))
        self.mean = float(ones @ targets / ones.sum())
        self._targets = targets
        self._weights = cho_solve(self._factor, targets - self.mean)

    def predict(self, inputs: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Posterior mean and standard deviation without noise (R&W, eqs. 2.25 and 2.26).

        Args:
            inputs: ``m x d``.

        Returns:
            ``m`` each.
        """
        scaled = inputs * np.exp(-self.hyperparameters.log_scales)
        cross = self._signal * _correlation(scaled, self._scaled)[0]
        mean = self.mean + cross @ self._weights
        half = solve_triangular(self._factor[0], cross.T, lower=True, check_finite=False)
        variance = self._signal - np.einsum("ij,ij->j", half, half)
        return mean, np.sqrt(np.maximum(variance, 1e-12))

    def slopes(self, inputs: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Gradients of what ``predict`` returns.

        Args:
            inputs: ``m x d``.

        Returns:
            ``m x d`` each.
        """
        scaled = inputs * np.exp(-self.hyperparameters.log_scales)
        correlation, slope = _correlation(scaled, self._scaled)
        # K^-1 k: how much each observation counts towards what is known at each input, m x n
        counts = cho_solve(self._factor, self._signal * correlation.T).T
        variance = self._signal * (1 - np.einsum("ij,ij->i", counts, correlation))
        std = np.sqrt(np.maximum(variance, 1e-12))[:, None]
        return (
            self._weighted_slope(scaled, slope * self._weights),
            -self._weighted_slope(scaled, slope * counts) / std,
        )

    def _weighted_slope(self, scaled: FloatArray, weights: FloatArray) -> FloatArray:
        """Gradient of a weighted sum of the correlations with each observation, ``m x d``."""
        towards = weights @ self._scaled - scaled * weights.sum(axis=1)[:, None]
        return np.asarray(self._signal * towards * np.exp(-self.hyperparameters.log_scales))
