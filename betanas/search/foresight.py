"""What a training will come to, foreseen from what it has told of itself so far.

A linear regression of the final value on what is known at a share of the budget: the pace, the
network's costs, the best accuracy so far; all trials that were not stopped teach it. It is Bayesian
with a conjugate prior (Gelman et al., 2013, "Bayesian Data Analysis", 3rd ed., sections 14.2 and
14.8), averaged over how large the coefficients may be: ten trials are enough to begin with, and it
knows how little they say. A Gaussian process and sklearn's ``BayesianRidge``, which hold a few
maximised numbers for certain, were too sure of theirs (``benchmarks/README.md``).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from optuna.trial import FrozenTrial
from scipy.stats import t as student

from betanas.arrays import FloatArray
from betanas.trial import PACE

LEAST_TRIALS = 10  # complete ones, before anything is foreseen
_COSTS = ("num_params", "macs")  # user attributes of our trials
_SCALES = np.geomspace(0.01, 100, 25)  # prior variances of coefficients, over that of the noise
_MEAN_SCALE = 10.0  # that of the regression's constant
# The noise's variance: inverse gamma with shape 1 around a tenth of the values' variance.
_NOISE_SHAPE, _NOISE_SHARE = 1.0, 0.1
_LEAST_DEVIATION = 1e-9  # of an input, as a share of the largest: what varies less tells nothing


@dataclass(frozen=True)
class Foresight:
    """What m trainings will come to: for each a mixture of g Student distributions.

    Attributes:
        weights: Of the mixture's parts, ``g``; their sum is 1.
        means: ``g x m``.
        scales: ``g x m``, the noise of one training included.
        freedom: Degrees of freedom of all parts.
    """

    weights: FloatArray
    means: FloatArray
    scales: FloatArray
    freedom: float

    @property
    def values(self) -> FloatArray:
        """Expected final values, ``m``."""
        return np.asarray(self.weights @ self.means)

    @property
    def stds(self) -> FloatArray:
        """Their standard deviations, ``m``."""
        variances = self.scales**2 * self.freedom / (self.freedom - 2)
        return np.sqrt(self.weights @ (variances + self.means**2) - self.values**2)

    def chances(self, value: float) -> FloatArray:
        """Probabilities that they come to more than ``value``, ``m``."""
        tails = student.sf((value - self.means) / self.scales, self.freedom)
        return np.asarray(self.weights @ tails)


def last_percent(trial: FrozenTrial) -> int | None:
    """How much of its budget a trial had spent when it last told of itself; None if never."""
    return max([*trial.intermediate_values, *paces(trial)], default=None)


def paces(trial: FrozenTrial) -> dict[int, Any]:
    """``per cent of the budget -> pace``; nothing where somebody else has noted something else."""
    noted = trial.user_attrs.get(PACE)
    known = noted.items() if isinstance(noted, Mapping) else ()
    return {int(percent): x for percent, x in known if str(percent).isdecimal()}


def told_by(trial: FrozenTrial, percent: int) -> dict[str, float]:
    """What is known of a trial when so much of its budget is spent: ``name -> finite number``."""
    known = {name: trial.user_attrs.get(name) for name in _COSTS}
    known["pace"] = paces(trial).get(percent)
    logarithms = {
        name: np.log(x) for name, x in known.items() if isinstance(x, int | float) and x > 0
    }
    accuracy = trial.intermediate_values.get(percent, np.nan)
    return {k: float(x) for k, x in {**logarithms, "accuracy": accuracy}.items() if np.isfinite(x)}


def foresee(
    asked: Sequence[FrozenTrial], complete: Sequence[FrozenTrial], percent: int
) -> Foresight | None:
    """What trials will come to that have told of themselves at the same share of their budgets.

    Args:
        asked: m >= 1 trials of which the same is known.
        complete: Trials with a finite value; those of which less is known teach nothing.
        percent: The share.

    Returns:
        None if the asked have told nothing, or fewer than ``LEAST_TRIALS`` teach.
    """
    names = list(told_by(asked[0], percent))
    if not {"pace", "accuracy"} & set(names):
        return None
    told = [(told_by(trial, percent), trial.values[0]) for trial in complete]
    rows = [([known[n] for n in names], value) for known, value in told if set(names) <= set(known)]
    if len(rows) < LEAST_TRIALS:
        return None
    inputs, values = np.array([x for x, _ in rows]), np.array([value for _, value in rows])
    questions = np.array([[told_by(trial, percent)[n] for n in names] for trial in asked])
    return regress(inputs, values, questions)


def regress(inputs: FloatArray, values: FloatArray, questions: FloatArray) -> Foresight:
    """Bayesian linear regression.

    Args:
        inputs: ``n x k``.
        values: ``n``.
        questions: Inputs of what is asked about, ``m x k``.
    """
    mean, deviation = inputs.mean(axis=0), inputs.std(axis=0)
    varies = deviation > _LEAST_DEVIATION * np.abs(inputs).max(axis=0)
    deviation = np.where(varies, deviation, np.inf)

    def standard(x: FloatArray) -> FloatArray:
        return np.column_stack([np.ones(len(x)), (x - mean) / deviation])

    Z, asked = standard(inputs), standard(questions)
    centre = values.mean()
    v = values - centre
    shape = _NOISE_SHAPE + len(v) / 2
    rate = max(_NOISE_SHARE * v.var(), np.finfo(float).tiny)  # not 0 where all values are equal
    evidence, means, scales = [], [], []
    for scale in _SCALES:
        prior = 1 / np.array([_MEAN_SCALE, *[scale] * inputs.shape[1]])
        precision = Z.T @ Z + np.diag(prior)
        coefficients = np.linalg.solve(precision, Z.T @ v)
        left = rate + (v @ v - coefficients @ precision @ coefficients) / 2
        evidence.append(
            np.log(prior).sum() / 2 - np.linalg.slogdet(precision)[1] / 2 - shape * np.log(left)
        )
        spread = np.einsum("mk,km->m", asked, np.linalg.solve(precision, asked.T))
        means.append(asked @ coefficients)
        scales.append(np.sqrt(left / shape * (1 + spread)))
    weights = np.exp(np.array(evidence) - np.max(evidence))
    return Foresight(weights / weights.sum(), np.array(means) + centre, np.array(scales), 2 * shape)
