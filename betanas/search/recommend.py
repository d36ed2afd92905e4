"""The recommended best: the kernel that the model, not one lucky training, holds for the best."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from betanas.architecture.limits import Feasibility
from betanas.search.acquisition import maximize
from betanas.search.space import Space
from betanas.search.surrogate import Features, Surrogate
from betanas.trial import TrialRecord

MIN_TRIALS = 4


@dataclass(frozen=True, slots=True)
class Recommendation:
    """The feasible kernel of highest posterior mean.

    Attributes:
        parameters: The kernel.
        predicted_value: Posterior mean of its accuracy, [0, 1] give or take.
        predicted_std: Posterior standard deviation.
    """

    parameters: dict[str, float]
    predicted_value: float
    predicted_std: float


def recommend(
    space: Space, feasibility: Feasibility, records: Sequence[TrialRecord], seed: int
) -> Recommendation | None:
    """Maximises the Gaussian process's posterior mean over the feasible space.

    Args:
        space: What was searched.
        feasibility: What may be trained.
        records: The study's trials; the complete ones are learnt from.
        seed: Of the maximiser's random pool.

    Returns:
        The recommendation; None below ``MIN_TRIALS`` complete trials.
    """
    complete = [r for r in records if r.state == "complete" and r.value is not None]
    if len(complete) < MIN_TRIALS:
        return None
    kernels = np.array([space.vector(r.parameters) for r in complete])
    values = np.array([r.value for r in complete], dtype=np.float64)
    surrogate = Surrogate(Features(space, feasibility), kernels, values)
    best = kernels[np.argsort(-values, kind="stable")[:8]]
    rng = np.random.default_rng([seed, len(complete)])
    kernel = maximize(lambda x: surrogate.predict(x)[0], space, feasibility, best, rng)[0]
    mean, std = surrogate.predict(kernel[None, :])
    return Recommendation(space.kernel(kernel), float(mean[0]), float(std[0]))
