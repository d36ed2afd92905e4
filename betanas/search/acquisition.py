"""Maximising a utility over feasible kernels only, so that no proposal can be rejected.

The rules of feasibility are exact, cheap and anything but smooth: so a large pool of kernels is
filtered by them, and the best of it is refined by ever smaller perturbations, filtered likewise.
"""

from collections.abc import Callable

import numpy as np

from betanas.architecture.beta import FloatArray
from betanas.architecture.limits import Feasibility
from betanas.errors import RunError
from betanas.search.space import Space

Utility = Callable[[FloatArray], FloatArray]

_POOL = 2048  # uniform feasible kernels
_ELITE = 24  # kernels that are refined
_CHILDREN = 24  # perturbations of each elite kernel in a round
_SCALES = (0.15, 0.08, 0.04, 0.02, 0.01, 0.005)  # of a perturbation, share of a range
_MOST_TRIED = 2**20


def feasible_kernels(
    space: Space, feasibility: Feasibility, number: int, rng: np.random.Generator
) -> FloatArray:
    """Draws feasible kernels uniformly.

    Args:
        space: Where to draw.
        feasibility: What to keep.
        number: How many to return at most; fewer if only few of 2**20 are feasible.
        rng: Source of randomness.

    Returns:
        ``m x d``, 1 <= m <= number.

    Raises:
        RunError: If none of 2**20 kernels is feasible.
    """
    found: list[FloatArray] = []
    tried = count = 0
    while count < number and tried < _MOST_TRIED:
        kernels = space.kernels(rng.random((4 * number, len(space.names))))
        kernels = kernels[feasibility.feasible(kernels)]
        found.append(kernels)
        tried, count = tried + 4 * number, count + len(kernels)
    if count == 0:
        raise RunError(f"none of {tried:,} kernels is feasible; raise the limits")
    return np.concatenate(found)[:number]


def maximize(
    utility: Utility,
    space: Space,
    feasibility: Feasibility,
    starts: FloatArray,
    rng: np.random.Generator,
) -> FloatArray:
    """Looks for the feasible kernels of highest utility.

    Args:
        utility: Maps kernels, ``n x d``, to values, ``n``.
        space: The ranges.
        feasibility: The rules.
        starts: Promising kernels to look around, ``n x d``; they may be infeasible themselves.
        rng: Source of randomness.

    Returns:
        Feasible kernels in falling order of utility, ``m x d``.
    """
    pool = feasible_kernels(space, feasibility, _POOL, rng)
    if len(starts):
        around = np.repeat(starts, max(1, _POOL // (4 * len(starts))), axis=0)
        pool = np.concatenate([pool, _perturbed(around, space, feasibility, 0.1, rng)])
    values = utility(pool)
    for scale in _SCALES:
        elite = np.argsort(-values, kind="stable")[:_ELITE]
        children = _perturbed(
            np.repeat(pool[elite], _CHILDREN, axis=0), space, feasibility, scale, rng
        )
        if len(children):
            pool = np.concatenate([pool[elite], children])
            values = np.concatenate([values[elite], utility(children)])
    return pool[np.argsort(-values, kind="stable")]


def _perturbed(
    kernels: FloatArray,
    space: Space,
    feasibility: Feasibility,
    scale: float,
    rng: np.random.Generator,
) -> FloatArray:
    """Feasible neighbours: each moves in a random half of its dimensions, normally distributed."""
    moved = rng.random(kernels.shape) < 0.5
    step = rng.normal(scale=scale, size=kernels.shape) * moved
    unit = np.clip(space.unit(kernels) + step, 0.0, 1.0)
    neighbours = space.kernels(unit)
    return neighbours[feasibility.feasible(neighbours)]
