"""The Gaussian process over kernels: what it is told, and what is asked of it.

It is the sum of a process of the free parameters on the unit cube and one of the rules' features,
for the families costs and profile of the decoded network: accuracy within a budget of training time
depends on these, and the kernel determines them in ways that a smooth prior does not guess. The
model itself is BoTorch's (``botorch_model.py``), imported where it is wanted: with torch loaded
that takes 0.3 s of a processor, without it 2 s.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache, partial
from typing import TYPE_CHECKING

import numpy as np
from threadpoolctl import ThreadpoolController

from betanas.arrays import BoolArray, FloatArray
from betanas.search.problem import Source
from betanas.search.rules import Rules
from betanas.search.space import Space

if TYPE_CHECKING:
    import torch
    from botorch.acquisition import AcquisitionFunction

    from betanas.search.botorch_model import KernelGP
    from betanas.search.prior import SourceMean

_CHUNK = 256  # kernels that are asked about at once


@dataclass(frozen=True)
class Observations:
    """Measured kernels, in the order of the trials' numbers.

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

    def take(self, which: slice | BoolArray) -> Observations:
        """A selection, in order."""
        parts = (self.kernels, self.features, self.values, self.stds)
        return Observations(*(part[which] for part in parts))


@cache
def _libraries() -> ThreadpoolController:
    return ThreadpoolController()


@contextmanager
def one_thread() -> Iterator[None]:
    """Keeps linear algebra on one thread, inside a ``with`` or as a decorator.

    Some hundred trials make matrices that gain nothing from more, and on a machine that trains
    beside it threads wait for each other.
    """
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with _libraries().limit(limits=1, user_api="blas"):
            yield
    finally:
        torch.set_num_threads(threads)


class InputScaling:
    """From kernels and features to a model's inputs, each about [0, 1].

    Args:
        space: The ranges.
        features: Of the observations, ``n x c``: features have no declared range but theirs.
    """

    def __init__(self, space: Space, features: FloatArray) -> None:
        self._space, self.low = space, features.min(axis=0)
        self.width = np.maximum(features.max(axis=0) - self.low, 1e-6)

    def __call__(self, kernels: FloatArray, features: FloatArray) -> FloatArray:
        """From kernels, ``n x d``, and features, ``n x c``, to inputs, ``n x (e + c)``."""
        encoded = self._space.encode(kernels)
        return np.column_stack([encoded, (features - self.low) / self.width])


class Surrogate:
    """BoTorch's model of measured kernels, asked about kernels and their features.

    Args:
        space: The ranges.
        observed: n >= 2 measured kernels.
        start: An earlier fit to begin from; None for the priors' modes.
        source: Another study's model in the same space, whose posterior mean this one's prior mean
            follows as far as its values bear it out; None for a constant prior mean.

    Attributes:
        model: BoTorch's.
        plain: The same with a constant prior mean.
        inputs: Its inputs for the observations, ``n x (e + c)``.
    """

    def __init__(
        self,
        space: Space,
        observed: Observations,
        start: Surrogate | None = None,
        source: Surrogate | None = None,
    ) -> None:
        from betanas.search.botorch_model import fit_model

        self._space, self._scaling = space, InputScaling(space, observed.features)
        self.inputs = self.inputs_of(observed.kernels, observed.features)
        fit = partial(
            fit_model, self.inputs, observed.values, space.encoded_width, stds=observed.stds
        )
        self.plain: KernelGP = fit(None if start is None else start.plain)
        self.model: KernelGP = self.plain
        if source is not None:
            self._follow(source, fit)

    def _follow(self, source: Surrogate, fit: Callable[..., KernelGP]) -> None:
        """Lets a source's posterior mean into the model's, as far as leave-one-out bears it out."""
        from betanas.search.prior import guess_slope, source_weight

        mean = self._mean_after(source)
        guess = mean.guess(self.inputs)
        mean.weight = max(guess_slope(self.plain, guess), 0.0)
        if not mean.weight:
            return
        guided = fit(self.plain, mean=mean)
        mean.weight = source_weight(self.plain, guided, guess)
        if mean.weight:
            self.model = guided

    def _mean_after(self, source: Surrogate) -> SourceMean:
        """A source's posterior mean as a function of this model's inputs."""
        import torch

        from betanas.search.prior import SourceMean

        ours, theirs = self._scaling, source._scaling
        same = np.ones(self._space.encoded_width)
        scale = np.concatenate([same, ours.width / theirs.width])
        shift = np.concatenate([0 * same, (ours.low - theirs.low) / theirs.width])
        return SourceMean(source.model, torch.from_numpy(scale), torch.from_numpy(shift))

    @property
    def source_weight(self) -> float:
        """Standardised values here that a standardised one of the source is taken for."""
        return float(getattr(self.model.mean_module, "weight", 0.0))

    def inputs_of(self, kernels: FloatArray, features: FloatArray) -> torch.Tensor:
        """From kernels, ``m x d``, and features, ``m x c``, to ``m x (e + c)``, float64."""
        import torch

        return torch.from_numpy(self._scaling(kernels, features)).double()

    def predict(self, kernels: FloatArray, features: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Posterior of the noise-free value.

        Args:
            kernels: ``m x d``.
            features: ``m x c``.

        Returns:
            Mean and standard deviation, ``m`` each, in the units of the values.
        """
        import torch

        found = np.empty((2, len(kernels)))
        with torch.no_grad():
            for first in range(0, len(kernels), _CHUNK):
                part = slice(first, first + _CHUNK)
                asked = self.inputs_of(kernels[part], features[part])
                posterior = self.model.posterior(asked.unsqueeze(1))
                found[0, part] = posterior.mean.flatten().numpy()
                found[1, part] = posterior.variance.flatten().numpy()
        return found[0], np.sqrt(found[1])

    def rate(
        self, function: AcquisitionFunction, kernels: FloatArray, features: FloatArray
    ) -> FloatArray:
        """An acquisition function's values, ``m``, of kernels, ``m x d``, and their features."""
        return rate(function, self.inputs_of(kernels, features))

    def gradients(
        self, function: AcquisitionFunction, kernels: FloatArray, features: FloatArray
    ) -> tuple[FloatArray, FloatArray]:
        """Gradients of ``rate`` in unit cube, ``m x d``, and in the features, ``m x c``."""
        import torch

        inputs = self.inputs_of(kernels, features).requires_grad_()
        values = function(inputs.unsqueeze(1))
        if not values.requires_grad:  # of somebody's own, and not differentiable
            return np.zeros(kernels.shape), np.zeros(features.shape)
        (gradient,) = torch.autograd.grad(values.sum(), inputs)
        found = np.nan_to_num(gradient.numpy())
        encoded = self._space.encoded_width
        in_unit = self._space.decode_gradient(found[:, :encoded])
        return in_unit, found[:, encoded:] / self._scaling.width


def source_model(space: Space, rules: Rules, source: Source) -> Surrogate:
    """The model of what another study has measured, in a space that begins with it.

    Features are of the networks that its kernels decode to here.

    Args:
        space: The ranges.
        rules: Describe the kernels.
        source: At least two of them.
    """
    features = rules.assess(source.kernels).features
    stds = np.zeros_like(source.values)
    return Surrogate(space, Observations(source.kernels, features, source.values, stds))


def rate(function: AcquisitionFunction, inputs: torch.Tensor) -> FloatArray:
    """An acquisition function's values, ``m``, of inputs, ``m x (e + c)``; -inf for NaN.

    Raises:
        ArithmeticError: If none of them is a number.
    """
    import torch

    with torch.no_grad():
        parts = torch.split(inputs.unsqueeze(1), _CHUNK)
        values = np.concatenate([function(part).numpy() for part in parts])
    if np.isnan(values).all():
        raise ArithmeticError("the acquisition function is not a number anywhere")
    return np.where(np.isnan(values), -np.inf, values)
