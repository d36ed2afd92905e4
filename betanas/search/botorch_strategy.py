"""``search.sampler = "botorch"``: BoTorch's model and acquisition functions over our feasible set.

The model is a ``SingleTaskGP`` whose covariance is the sum of a process of the parameters and one
of the features; the acquisition function is one of ``acquisitions.py``, or the user's own. What is
ours is the maximiser: it proposes feasible kernels only.
"""

from __future__ import annotations

import warnings
from collections.abc import Hashable
from typing import TYPE_CHECKING

import numpy as np

from betanas.arrays import FloatArray
from betanas.errors import InputError
from betanas.search.acquisition import Candidates, feasible_pool, maximize
from betanas.search.acquisitions import Acquisition, AcquisitionMaker, find_acquisition
from betanas.search.proposal import Evidence
from betanas.search.rules import Rules
from betanas.search.situation import Situation
from betanas.search.space import Space
from betanas.search.surrogate import InputScaling, one_thread

if TYPE_CHECKING:
    import torch
    from botorch.acquisition import AcquisitionFunction
    from botorch.models import SingleTaskGP

POOL = 1024  # feasible kernels from all over the space
LEAST_OBSERVATIONS = 2
_CHUNK = 256  # kernels that are scored at once
_COLD_EVERY = 16  # observations, at least, between two fits from the priors


class BoTorchProposer:
    """Proposes feasible kernels by BoTorch: a function of what it is told, nothing of Optuna.

    It keeps the pool of feasible kernels and an earlier fit, but only what it could compute again
    from the same evidence.

    Args:
        space: The ranges.
        seed: The study's.
        acquisition: A name of ``acquisitions.ACQUISITIONS``, or what makes an acquisition function.

    Raises:
        InputError: For an unknown name.
    """

    def __init__(self, space: Space, seed: int, acquisition: Acquisition = "qLogNEI") -> None:
        self._space, self._seed = space, seed
        self._make: AcquisitionMaker = find_acquisition(acquisition)
        self._pool: Candidates | None = None
        self._rules: Rules | None = None
        self._earlier: tuple[bytes, SingleTaskGP] | None = None

    def propose(
        self, rules: Rules, evidence: Evidence, known: set[Hashable], rng: np.random.Generator
    ) -> tuple[FloatArray | None, str]:
        """The feasible kernel, ``d``, of which the acquisition function says most.

        Args:
            rules: What is feasible.
            evidence: What was measured, and what is in training.
            known: Identities of kernels that are not to be proposed.
            rng: Source of randomness.

        Returns:
            The kernel; or None and, for people, why there is none.

        Raises:
            InputError: If the user's own ``acquisition`` makes something else.
        """
        if len(evidence.values) < LEAST_OBSERVATIONS:
            return None, f"{len(evidence.values)} complete trials are too few for a model"
        if self._pool is None or self._rules != rules:
            self._rules = rules
            self._pool = feasible_pool(self._space, rules, POOL, self._seed)
        try:
            with one_thread(), warnings.catch_warnings():
                warnings.simplefilter("ignore")
                import torch

                seed = int(rng.integers(2**31))
                # BoTorch draws from torch's global generator; a proposal must not depend on it.
                with torch.random.fork_rng(devices=[]):
                    torch.manual_seed(seed)
                    found = self._ranked(rules, self._pool, evidence, rng, seed)
        except (ArithmeticError, RuntimeError, ValueError) as error:
            return None, f"BoTorch found no proposal: {_first_line(error)}"
        for kernel in found.kernels:
            if rules.identity(kernel) not in known:
                return np.asarray(kernel), ""
        return None, "all candidates are known or in training"

    def _ranked(
        self,
        rules: Rules,
        pool: Candidates,
        evidence: Evidence,
        rng: np.random.Generator,
        seed: int,
    ) -> Candidates:
        """Feasible kernels in falling order of the acquisition function."""
        features = rules.assess(evidence.kernels).features
        inputs = Inputs(self._space, features)
        observed = inputs(evidence.kernels, features)
        model = self._fit(observed, evidence.values)
        pending = evidence.pending
        waiting = inputs(pending, rules.assess(pending).features) if len(pending) else None
        function = self._make(model, observed, waiting, seed)
        _check_function(function, self._make)
        scores = Scores(inputs, function)
        best = evidence.kernels[np.argsort(-evidence.values, kind="stable")[:8]]
        found, _ = maximize(scores.values, self._space, rules, pool, best, rng, scores.gradients)
        return found

    def _fit(self, inputs: torch.Tensor, values: FloatArray) -> SingleTaskGP:
        """The model of all values, begun where a fit to the first of them has ended.

        Fits from the priors come at fixed numbers of values, so that where one begins depends on
        the values alone, not on what this process has fitted before.
        """
        # The more values, the dearer a fit and the less 16 of them change it.
        every = max(_COLD_EVERY, 2 ** (len(values).bit_length() - 4))
        known = len(values) // every * every
        encoded = self._space.encoded_width
        if known in (0, len(values)):
            return fit_model(inputs, values, encoded)
        key = inputs[:known].numpy().tobytes() + values[:known].tobytes()
        if self._earlier is None or self._earlier[0] != key:
            self._earlier = key, fit_model(inputs[:known], values[:known], encoded)
        return fit_model(inputs, values, encoded, start=self._earlier[1])


class BoTorchStrategy:
    """``botorch``: an acquisition function of BoTorch's, maximised over feasible kernels.

    Args:
        space: The ranges.
        seed: The study's.
        acquisition: As ``BoTorchProposer`` takes it.
    """

    def __init__(self, space: Space, seed: int, acquisition: Acquisition = "qLogNEI") -> None:
        self._proposer = BoTorchProposer(space, seed, acquisition)

    def propose(
        self, situation: Situation, rng: np.random.Generator
    ) -> tuple[FloatArray | None, str]:
        """The kernel of which the acquisition function says most."""
        if len(situation.complete) < LEAST_OBSERVATIONS:
            return None, f"{len(situation.complete)} complete trials are too few for a model"
        values, failed = situation.values, situation.failed
        evidence = Evidence(
            np.concatenate([situation.kernels, failed]),
            np.concatenate([values, np.full(len(failed), values.min())]),
            np.zeros(len(values) + len(failed)),
            situation.pending,
        )
        return self._proposer.propose(situation.rules, evidence, situation.known, rng)


class Inputs:
    """From kernels and features to a BoTorch model's inputs.

    Args:
        space: The ranges.
        features: Of the observations, ``n x c``.
    """

    def __init__(self, space: Space, features: FloatArray) -> None:
        self.space, self.scaling = space, InputScaling(space, features)

    def __call__(self, kernels: FloatArray, features: FloatArray) -> torch.Tensor:
        """From kernels, ``m x d``, and features, ``m x c``, to ``m x (e + c)``, float64."""
        import torch

        return torch.from_numpy(self.scaling(kernels, features)).double()


class Scores:
    """A BoTorch acquisition function as our maximiser asks it.

    Args:
        inputs: Of its model.
        function: From ``m x 1 x (e + c)`` inputs to ``m`` values.
    """

    def __init__(self, inputs: Inputs, function: AcquisitionFunction) -> None:
        self._inputs, self._function = inputs, function

    def values(self, kernels: FloatArray, features: FloatArray) -> FloatArray:
        """Of kernels, ``m x d``, and features, ``m x c``: values, ``m``."""
        import torch

        with torch.no_grad():
            parts = torch.split(self._inputs(kernels, features).unsqueeze(1), _CHUNK)
            values = np.concatenate([self._function(part).numpy() for part in parts])
        if np.isnan(values).all():
            raise ArithmeticError("the acquisition function is not a number anywhere")
        return np.where(np.isnan(values), -np.inf, values)

    def gradients(self, kernels: FloatArray, features: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Gradients of ``values`` in unit cube, ``m x d``, and in the features, ``m x c``."""
        import torch

        inputs = self._inputs(kernels, features).requires_grad_()
        values = self._function(inputs.unsqueeze(1))
        if not values.requires_grad:  # of somebody's own, and not differentiable
            return np.zeros(kernels.shape), np.zeros(features.shape)
        (gradient,) = torch.autograd.grad(values.sum(), inputs)
        found = np.nan_to_num(gradient.numpy())
        encoded = self._inputs.space.encoded_width
        in_unit = self._inputs.space.decode_gradient(found[:, :encoded])
        return in_unit, found[:, encoded:] / self._inputs.scaling.width


def fit_model(
    inputs: torch.Tensor,
    values: FloatArray,
    parameters: int,
    start: SingleTaskGP | None = None,
) -> SingleTaskGP:
    """``botorch_model.fit_model``; its BoTorch is far, and only imported when it is wanted."""
    from betanas.search import botorch_model

    return botorch_model.fit_model(inputs, values, parameters, start)


def _check_function(function: object, make: object) -> None:
    """Refuses what is no acquisition function: only the user's own maker can return such."""
    from botorch.acquisition import AcquisitionFunction

    if not isinstance(function, AcquisitionFunction):
        raise InputError(
            f"acquisition must make a BoTorch AcquisitionFunction, but "
            f"{getattr(make, '__name__', make)} made a {type(function).__name__}"
        )


def _first_line(error: Exception) -> str:
    return (str(error) or type(error).__name__).splitlines()[0]
