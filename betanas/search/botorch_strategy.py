"""The search's own strategy: BoTorch's model and acquisition functions over our feasible set.

The model is a ``SingleTaskGP`` whose covariance is the sum of a process of the parameters and one
of the features; the acquisition function is one of ``acquisitions.py``, or the user's own. What is
ours is the maximiser: it proposes feasible kernels only.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from functools import partial

import numpy as np

from betanas.arrays import FloatArray
from betanas.errors import InputError
from betanas.search.acquisition import Candidates, FeasiblePool, maximize
from betanas.search.acquisitions import Acquisition, AcquisitionMaker, find_acquisition
from betanas.search.problem import Source
from betanas.search.rules import Rules
from betanas.search.situation import Situation
from betanas.search.space import Space
from betanas.search.surrogate import Observations, Surrogate, one_thread, source_model

POOL = 1024  # feasible kernels from all over the space
LEAST_OBSERVATIONS = 2
_COLD_EVERY = 16  # observations, at least, between two fits from the priors


@dataclass(frozen=True)
class Evidence:
    """What is known when a kernel is wanted; in the order of the trials' numbers.

    Attributes:
        kernels: Measured ones, ``n x d``.
        values: Their values, ``n``.
        stds: Standard deviations of the values beside the noise that all have, ``n``.
        pending: Kernels that are being trained, ``p x d``.
        source: What another study has measured; None for none.
    """

    kernels: FloatArray
    values: FloatArray
    stds: FloatArray
    pending: FloatArray
    source: Source | None = None


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
        self._space, self._pool = space, FeasiblePool(space, POOL, seed)
        self._make: AcquisitionMaker = find_acquisition(acquisition)
        self._earlier: tuple[bytes, Surrogate] | None = None
        self._source: tuple[Source, Surrogate] | None = None

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
        return first_new(partial(self._ranked, rules, evidence, rng), rules, known, rng)

    def _ranked(
        self, rules: Rules, evidence: Evidence, rng: np.random.Generator, seed: int
    ) -> Candidates:
        """Feasible kernels in falling order of the acquisition function."""
        kernels, pending = evidence.kernels, evidence.pending
        features = rules.assess(kernels).features
        observed = Observations(kernels, features, evidence.values, evidence.stds)
        surrogate = self._fit(observed, self._guessing(rules, evidence.source))
        waiting = (
            surrogate.inputs_of(pending, rules.assess(pending).features) if len(pending) else None
        )
        function = self._make(surrogate.model, surrogate.inputs, waiting, seed)
        _check_function(function, self._make)
        best = kernels[np.argsort(-evidence.values, kind="stable")[:8]]
        found, _ = maximize(
            partial(surrogate.rate, function),
            self._space,
            rules,
            self._pool(rules),
            best,
            rng,
            partial(surrogate.gradients, function),
        )
        return found

    def _guessing(self, rules: Rules, source: Source | None) -> Surrogate | None:
        """The model of what another study has measured, fitted once."""
        if source is None:
            return None
        if self._source is None or self._source[0] is not source:
            self._source = source, source_model(self._space, rules, source)
        return self._source[1]

    def _fit(self, observed: Observations, source: Surrogate | None) -> Surrogate:
        """The model of all values, begun where a fit to the first of them has ended.

        Fits from the priors come at fixed numbers of values, so that where one begins depends on
        the values alone, not on what this process has fitted before.
        """
        number = len(observed.values)
        # The more values, the dearer a fit and the less 16 of them change it.
        every = max(_COLD_EVERY, 2 ** (number.bit_length() - 4))
        known = number // every * every
        if known in (0, number):
            return Surrogate(self._space, observed, source=source)
        first = observed.take(slice(known))
        key = b"".join(part.tobytes() for part in (first.kernels, first.values, first.stds))
        if self._earlier is None or self._earlier[0] != key:
            self._earlier = key, Surrogate(self._space, first)
        return Surrogate(self._space, observed, self._earlier[1], source)


class BoTorchStrategy:
    """``botorch`` and ``gp``: an acquisition function of BoTorch's over feasible kernels.

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
        values, failed, stopped = situation.values, situation.failed, situation.stopped.expected
        evidence = Evidence(
            np.concatenate([situation.kernels, stopped.kernels, failed]),
            np.concatenate([values, stopped.values, np.full(len(failed), values.min())]),
            np.concatenate([np.zeros(len(values)), stopped.stds, np.zeros(len(failed))]),
            situation.pending,
            situation.problem.source,
        )
        return self._proposer.propose(situation.rules, evidence, situation.known, rng)


def first_new(
    ranked: Callable[[int], Candidates],
    rules: Rules,
    known: set[Hashable],
    rng: np.random.Generator,
) -> tuple[FloatArray | None, str]:
    """The first of BoTorch's proposals that is not known.

    Args:
        ranked: From a seed to feasible kernels in falling order; BoTorch may fail in it.
        rules: Tell what is the same.
        known: Identities of kernels that are not to be proposed.
        rng: Source of randomness.

    Returns:
        The kernel, ``d``; or None and, for people, why there is none.
    """
    try:
        with one_thread(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            import torch

            seed = int(rng.integers(2**31))
            # BoTorch draws from torch's global generator; a proposal must not depend on it.
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(seed)
                found = ranked(seed)
    except (ArithmeticError, RuntimeError, ValueError) as error:
        return None, f"BoTorch found no proposal: {_first_line(error)}"
    for kernel in found.kernels:
        if rules.identity(kernel) not in known:
            return np.asarray(kernel), ""
    return None, "all candidates are known or in training"


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
