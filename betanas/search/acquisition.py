"""Maximising an acquisition function over feasible kernels only: no proposal can be rejected.

The rules of feasibility are exact, cheap and anything but smooth: so a large pool of kernels is
filtered by them once, and the best of it is refined by ever smaller perturbations, filtered
likewise.
"""

from collections.abc import Callable, Hashable
from dataclasses import dataclass
from functools import partial

import numpy as np
from scipy.stats import qmc

from betanas.arrays import FloatArray, IntArray
from betanas.errors import RunError
from betanas.search.rules import Rules
from betanas.search.space import Space

# Of kernels, ``n x d``, and their features, ``n x c``: values, ``n``; their gradients in unit cube,
# ``n x d``, and features, ``n x c``.
Acquisition = Callable[[FloatArray, FloatArray], FloatArray]
Gradient = Callable[[FloatArray, FloatArray], tuple[FloatArray, FloatArray]]

_CHUNK = 2**14
_MOST_TRIED = 2**20
_ELITE = 24  # kernels that are refined
_CHILDREN = 24  # perturbations of each elite kernel in a round
_SCALES = (0.15, 0.08, 0.04, 0.02, 0.01, 0.005)  # of a perturbation, share of a range
_LINE = (4.0, 2.0, 1.0, 0.5)  # lengths of gradient steps, in those scales
_SECANT = 0.05  # along which the features' own gradients are taken: they are steps, seen closely


@dataclass(frozen=True)
class Candidates:
    """Feasible kernels with their features.

    Attributes:
        kernels: ``n x d``.
        features: ``n x c``.
    """

    kernels: FloatArray
    features: FloatArray

    def __len__(self) -> int:
        return len(self.kernels)

    def take(self, which: slice | IntArray) -> "Candidates":
        """A selection by position."""
        return Candidates(self.kernels[which], self.features[which])

    def and_also(self, other: "Candidates") -> "Candidates":
        """Both, one after the other."""
        return Candidates(
            np.concatenate([self.kernels, other.kernels]),
            np.concatenate([self.features, other.features]),
        )


def keep_feasible(rules: Rules, kernels: FloatArray) -> Candidates:
    """Drops the infeasible ones of n kernels, ``n x d``."""
    assessment = rules.assess(kernels)
    return Candidates(kernels[assessment.feasible], assessment.features[assessment.feasible])


def feasible_pool(space: Space, rules: Rules, number: int, seed: int) -> Candidates:
    """The first feasible kernels of a scrambled Sobol sequence.

    Args:
        space: Where to draw.
        rules: What to keep.
        number: How many to return at most; fewer if only few of 2**20 are feasible.
        seed: Of the scrambling.

    Raises:
        RunError: If none of 2**20 kernels is feasible.
    """
    sequence = qmc.Sobol(len(space.names), scramble=True, rng=seed)
    pool = keep_feasible(rules, space.kernels(sequence.random(_CHUNK)))
    tried = _CHUNK
    while len(pool) < number and tried < _MOST_TRIED:
        pool = pool.and_also(keep_feasible(rules, space.kernels(sequence.random(_CHUNK))))
        tried += _CHUNK
    if len(pool) == 0:
        raise RunError(f"none of {tried:,} kernels is feasible; raise the limits")
    return pool.take(slice(number))


class FeasiblePool:
    """``feasible_pool``, computed again only when the rules have changed.

    Args:
        space: Where to draw.
        number: How many kernels at most.
        seed: Of the scrambling.
    """

    def __init__(self, space: Space, number: int, seed: int) -> None:
        self._make = partial(feasible_pool, space, number=number, seed=seed)
        self._rules: Rules | None = None
        self._pool: Candidates | None = None

    def __call__(self, rules: Rules) -> Candidates:
        """The pool under these rules."""
        if self._pool is None or self._rules != rules:
            self._rules, self._pool = rules, self._make(rules)
        return self._pool


def maximize(
    acquisition: Acquisition,
    space: Space,
    rules: Rules,
    pool: Candidates,
    starts: FloatArray,
    rng: np.random.Generator,
    gradient: Gradient | None = None,
) -> tuple[Candidates, FloatArray]:
    """Looks for the feasible kernels of highest value.

    Args:
        acquisition: Maps kernels, ``n x d``, and features, ``n x c``, to values, ``n``.
        space: The ranges.
        rules: What is feasible.
        pool: Feasible kernels from all over the space.
        starts: Promising kernels to look around, ``n x d``; they may be infeasible themselves.
        rng: Source of randomness.
        gradient: Its gradients in unit cube, ``n x d``, and features, ``n x c``.

    Returns:
        Feasible kernels in falling order of value, and their values: what was found, and all of the
        pool, for in a small space what was found may be known already.
    """
    if len(starts):
        around = np.repeat(starts, max(1, 512 // len(starts)), axis=0)
        pool = pool.and_also(_perturbed(around, space, rules, 0.1, rng))
    values = acquisition(pool.kernels, pool.features)
    first, first_values = pool, values
    for scale in _SCALES:
        elite = np.argsort(-values, kind="stable")[:_ELITE]
        parents = np.repeat(pool.kernels[elite], _CHILDREN, axis=0)
        children = _perturbed(parents, space, rules, scale, rng)
        if gradient is not None:
            children = children.and_also(_uphill(pool.take(elite), gradient, space, rules, scale))
        pool, values = pool.take(elite), values[elite]
        if len(children):
            pool = pool.and_also(children)
            values = np.concatenate([values, acquisition(children.kernels, children.features)])
    pool, values = pool.and_also(first), np.concatenate([values, first_values])
    order = np.argsort(-values, kind="stable")
    return pool.take(order), values[order]


def _uphill(
    elite: Candidates, gradient: Gradient, space: Space, rules: Rules, scale: float
) -> Candidates:
    """Steps along the gradient from each kernel, those of them that are feasible.

    Where a long step leaves the feasible set a shorter one may stay inside: a line search of all
    lengths at once, which the acquisition function then judges.
    """
    unit = space.unit(elite.kernels)
    in_unit, in_features = gradient(elite.kernels, elite.features)
    if elite.features.shape[1]:
        in_unit = in_unit + np.einsum(
            "mc,mdc->md", in_features, _feature_gradients(unit, elite.features, space, rules)
        )
    in_unit[:, space.discrete] = 0.0  # whole numbers and choices have no gradient
    longest = np.abs(in_unit).max(axis=1, keepdims=True)
    direction = in_unit / np.where(longest > 0, longest, 1.0)
    steps = scale * np.array(_LINE)[:, None, None] * direction
    points = np.clip(unit + steps, 0.0, 1.0).reshape(-1, unit.shape[1])
    return keep_feasible(rules, space.kernels(points))


def _feature_gradients(
    unit: FloatArray, features: FloatArray, space: Space, rules: Rules
) -> FloatArray:
    """How the features change along each parameter, ``m x d x c``, by secants into the cube."""
    number, dimension = unit.shape
    step = np.where(unit > 0.5, -_SECANT, _SECANT)
    moved = np.repeat(unit[:, None, :], dimension, axis=1)
    axis = np.arange(dimension)
    moved[:, axis, axis] += step
    there = rules.assess(space.kernels(moved.reshape(-1, dimension))).features
    return (there.reshape(number, dimension, -1) - features[:, None, :]) / step[:, :, None]


def _perturbed(
    kernels: FloatArray, space: Space, rules: Rules, scale: float, rng: np.random.Generator
) -> Candidates:
    """Feasible neighbours: each moves in a random half of its dimensions, normally distributed.

    Of whole numbers and choices, whose moves are never small, about one moves.
    """
    moved = rng.random(kernels.shape) < 0.5
    step = rng.normal(scale=scale, size=kernels.shape) * moved
    if discrete := space.discrete:
        step[:, discrete] *= rng.random((len(kernels), len(discrete))) < 2 / len(discrete)
    return keep_feasible(rules, space.moved(kernels, step, rng))


def moved_inside(
    space: Space, rules: Rules, measured: FloatArray, kernel: FloatArray, known: set[Hashable]
) -> FloatArray | None:
    """The feasible and new point nearest to a kernel on the way to the nearest measured one.

    Args:
        space: The ranges.
        rules: What is feasible.
        measured: Kernels, ``n x d``, of which the feasible ones count.
        kernel: What is infeasible, or known, ``d``.
        known: Identities of kernels that are not new.

    Returns:
        The point, ``d``; None if there is none.
    """
    inside = keep_feasible(rules, measured).kernels
    if len(inside) == 0:
        return None
    gaps = np.linalg.norm(space.unit(inside) - space.unit(kernel[None, :]), axis=1)
    nearest = inside[int(np.argmin(gaps))]
    share = np.linspace(0.0, 1.0, 257)[1:-1, None]
    way = keep_feasible(rules, space.nearest(kernel + share * (nearest - kernel))).kernels
    return next((point for point in way if rules.identity(point) not in known), None)
