"""The Gaussian process over kernels: what it is told, and what the search asks it.

It is the sum of a process of the free parameters on the unit cube and one of the rules' features,
for the families costs and profile of the decoded network: accuracy within a budget of training time
depends on these, and the kernel determines them in ways that a smooth prior does not guess.
"""

from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import cache

import numpy as np
from scipy.special import erfcx, log_ndtr
from threadpoolctl import ThreadpoolController

from betanas.arrays import BoolArray, FloatArray
from betanas.search.gaussian_process import (
    GaussianProcess,
    Hyperparameters,
    fit,
    grouped,
)
from betanas.search.space import Space

_COLD_STEPS = 60
_WARM_STEPS = 20


@dataclass(frozen=True)
class Observations:
    """Kernels with what is known of them, and their features.

    Attributes:
        kernels: ``n x d``.
        features: ``n x c``.
        values: ``n``.
        stds: Standard deviations of the values beside the noise that all have, ``n``.
    """

    kernels: FloatArray
    features: FloatArray
    values: FloatArray
    stds: FloatArray

    def take(self, which: slice | BoolArray) -> "Observations":
        """A selection, in order."""
        parts = (self.kernels, self.features, self.values, self.stds)
        return Observations(*(part[which] for part in parts))


@cache
def _libraries() -> ThreadpoolController:
    return ThreadpoolController()


def one_thread() -> AbstractContextManager[object]:
    """Keeps linear algebra on one thread, inside a ``with`` or as a decorator.

    Some hundred trials make matrices that gain nothing from more, and on a machine that trains
    beside it threads wait for each other.
    """
    limited: AbstractContextManager[object] = _libraries().limit(limits=1, user_api="blas")
    return limited


class InputScaling:
    """From kernels and features to a model's inputs, each about [0, 1].

    Args:
        space: The ranges.
        features: Of the observations, ``n x c``: features have no declared range but theirs.
    """

    def __init__(self, space: Space, features: FloatArray) -> None:
        self._space, self._low = space, features.min(axis=0)
        self.width = np.maximum(features.max(axis=0) - self._low, 1e-6)

    def __call__(self, kernels: FloatArray, features: FloatArray) -> FloatArray:
        """From kernels, ``n x d``, and features, ``n x c``, to inputs, ``n x (e + c)``."""
        encoded = self._space.encode(kernels)
        return np.column_stack([encoded, (features - self._low) / self.width])


class Surrogate:
    """A Gaussian process fitted to measured accuracies.

    Args:
        space: The ranges.
        observed: n >= 2 measured kernels.
        start: Hyperparameters to start from; None for the prior's mode.
    """

    def __init__(
        self, space: Space, observed: Observations, start: Hyperparameters | None = None
    ) -> None:
        self._space = space
        self.inputs = InputScaling(space, observed.features)
        inputs = self.inputs(observed.kernels, observed.features)
        self._centre = float(np.mean(observed.values))
        self._scale = float(np.std(observed.values)) or 1.0
        targets = (observed.values - self._centre) / self._scale
        self._extra = (observed.stds / self._scale) ** 2
        self._groups = grouped(space.encoded_width, observed.features.shape[1])
        begin = Hyperparameters.prior_mode(self._groups) if start is None else start
        steps = _COLD_STEPS if start is None else _WARM_STEPS
        self.hyperparameters = fit(inputs, targets, self._extra, self._groups, begin, steps)
        self._observed_inputs, self._targets = inputs, targets
        self._process = GaussianProcess(
            inputs, targets, self._extra, self._groups, self.hyperparameters
        )
        self._best = float(self._process.predict(inputs)[0].max())
        if not np.isfinite(self._best):
            raise ArithmeticError("the Gaussian process's posterior is not finite")

    def fantasize(self, kernels: FloatArray, features: FloatArray) -> None:
        """Takes the model's own predictions as measured where others still train (fantasies).

        The posterior mean stays as it is and the deviation shrinks around them, so that the next
        proposal goes elsewhere (Ginsbourger et al., 2010, "Kriging believer").
        """
        inputs = self.inputs(kernels, features)
        fantasies = self._process.predict(inputs)[0]
        self._process = GaussianProcess(
            np.concatenate([self._observed_inputs, inputs]),
            np.concatenate([self._targets, fantasies]),
            np.concatenate([self._extra, np.zeros(len(inputs))]),
            self._groups,
            self.hyperparameters,
        )

    def predict(self, kernels: FloatArray, features: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Posterior of the noise-free accuracy.

        Args:
            kernels: ``m x d``.
            features: ``m x c``.

        Returns:
            Mean and standard deviation, ``m`` each, in the units of the values.
        """
        mean, std = self._process.predict(self.inputs(kernels, features))
        return mean * self._scale + self._centre, std * self._scale

    @property
    def noise_std(self) -> float:
        """Learnt standard deviation of one measurement, in the units of the values."""
        return float(np.sqrt(self._process.noise)) * self._scale

    def log_expected_improvement(self, kernels: FloatArray, features: FloatArray) -> FloatArray:
        """Logarithm of the expected improvement on the best posterior mean of a measured kernel.

        The model's own incumbent instead of the best value, which noise has made look good
        (Ament et al., 2023, "Unexpected Improvements to Expected Improvement", eq. 9).

        Args:
            kernels: ``m x d``.
            features: ``m x c``.

        Returns:
            ``m``, up to a constant.
        """
        mean, std = self._process.predict(self.inputs(kernels, features))
        return np.asarray(np.log(std)) + log_h((mean - self._best) / std)

    def log_expected_improvement_gradient(
        self, kernels: FloatArray, features: FloatArray
    ) -> tuple[FloatArray, FloatArray]:
        """Gradient of ``log_expected_improvement``.

        Returns:
            In the kernels on the unit cube, ``m x d`` (0 for fixed parameters), and in the
            features, ``m x c``.
        """
        inputs = self.inputs(kernels, features)
        mean, std = self._process.predict(inputs)
        mean_gradient, std_gradient = self._process.gradients(inputs)
        z = (mean - self._best) / std
        rising = np.exp(log_ndtr(z) - log_h(z))[:, None]  # d log_h / dz
        relative = std_gradient / std[:, None]
        gradient = relative + rising * (mean_gradient / std[:, None] - z[:, None] * relative)
        return self._split(gradient)

    def mean_gradient(
        self, kernels: FloatArray, features: FloatArray
    ) -> tuple[FloatArray, FloatArray]:
        """Gradient of the posterior mean, as ``log_expected_improvement_gradient`` gives it."""
        return self._split(self._process.gradients(self.inputs(kernels, features))[0])

    def _split(self, gradient: FloatArray) -> tuple[FloatArray, FloatArray]:
        """From a gradient in the inputs to those in unit cube and features."""
        encoded = self._space.encoded_width
        in_unit = self._space.decode_gradient(gradient[:, :encoded])
        return in_unit, gradient[:, encoded:] / self.inputs.width

    def log_replicate_factor(self, kernels: FloatArray, features: FloatArray) -> FloatArray:
        """How much less a second measurement teaches where the noise, not the model, is unsure.

        Augmented expected improvement's factor (Huang et al., 2006, "Global Optimization of
        Stochastic Black-Box Systems via Sequential Kriging Meta-Models", eq. 12).

        Returns:
            Logarithms, ``m``, of factors in [0, 1].
        """
        _, std = self._process.predict(self.inputs(kernels, features))
        noise = np.sqrt(self._process.noise)
        return np.asarray(np.log1p(-noise / np.sqrt(std**2 + noise**2)))


def log_h(z: FloatArray) -> FloatArray:
    """``log(phi(z) + z * Phi(z))``, accurate for very negative ``z`` too (Ament et al., eq. 9)."""
    log_phi = -0.5 * z**2 - 0.5 * np.log(2 * np.pi)
    negative = np.minimum(z, 0.0)
    # Phi(z)/phi(z) = sqrt(pi/2) erfcx(-z/sqrt(2)); the difference cancels below about -1e3.
    ratio = np.sqrt(np.pi / 2) * erfcx(-negative / np.sqrt(2))
    below = np.where(
        negative > -1e3,
        np.log(np.maximum(1 + negative * ratio, 1e-300)),
        -2 * np.log(np.maximum(-negative, 1.0)),
    )
    positive = np.maximum(z, 0.0)
    above = np.log(
        np.exp(-0.5 * positive**2) / np.sqrt(2 * np.pi) + positive * np.exp(log_ndtr(positive))
    )
    return np.asarray(np.where(z < 0, log_phi + below, above))
