"""Several objectives at once: what beats what, and how much of the space a front dominates.

A *point* is a trial's values as all of this sees them: the accuracy, then the negative natural
logarithm of each cost (a latency in milliseconds, a count), so that more is better in each and a
factor is worth the same anywhere.
"""

from collections.abc import Mapping, Sequence

import numpy as np
from optuna._hypervolume import compute_hypervolume

from betanas.arrays import BoolArray, FloatArray

_SCALE = 0.1  # of the front's range, below its worst: Ishibuchi et al. (2011)
_LEAST_COST = 1e-12


def as_points(values: FloatArray) -> FloatArray:
    """From the values of n trials, ``n x q``, accuracy first, to points, ``n x q``."""
    costs = -np.log(np.maximum(values[:, 1:], _LEAST_COST))
    return np.column_stack([values[:, 0], costs])


def as_values(point: FloatArray) -> FloatArray:
    """The inverse of ``as_points`` for one point, ``q``."""
    return np.concatenate([point[:1], np.exp(-point[1:])])


def non_dominated(points: FloatArray) -> BoolArray:
    """Which of n points, ``n x q``, no other one beats: ``n``; of equal ones the first."""
    _, first = np.unique(points, axis=0, return_index=True)
    return np.isin(np.arange(len(points)), first) & _unbeaten(points)


def _unbeaten(points: FloatArray) -> BoolArray:
    """As ``non_dominated``, but all of equal ones."""
    found = [
        not ((points >= point).all(axis=1) & (points > point).any(axis=1)).any() for point in points
    ]
    return np.array(found, dtype=bool)


def ranks(points: FloatArray) -> FloatArray:
    """Of n points, ``n x q``, how many fronts are above theirs, ``n`` (Deb et al., 2002)."""
    found, left, rank = np.zeros(len(points)), np.arange(len(points)), 0
    while len(left):
        found[left], rank = rank, rank + 1
        left = left[~_unbeaten(points[left])]
    return found


def reference_point(points: FloatArray) -> FloatArray:
    """Where the hypervolume of n >= 1 points, ``n x q``, is to count from, ``q``.

    A tenth of the front's range below its worst in each objective, as BoTorch infers it
    (``infer_reference_point``; Ishibuchi et al., 2011, "Many-Objective and Many-Variable Test
    Problems for Visual Examination of Multiobjective Search"). Where the range is 0, a tenth of the
    value itself.
    """
    front = points[non_dominated(points)]
    worst, best = front.min(axis=0), front.max(axis=0)
    spread = np.where(best > worst, best - worst, np.maximum(np.abs(worst), _LEAST_COST))
    return np.asarray(worst - _SCALE * spread)


def hypervolume(points: FloatArray, reference: FloatArray) -> float:
    """Volume that n points, ``n x q``, dominate above a reference point, ``q``."""
    above = points[(points > reference).all(axis=1)]
    return float(compute_hypervolume(-above, -reference)) if len(above) else 0.0


def hypervolumes(points: FloatArray, reference: FloatArray) -> FloatArray:
    """The hypervolume after each of n points, ``n x q``, in their order: ``n``."""
    found, front = np.zeros(len(points)), points[:0]
    for i, point in enumerate(points):
        found[i] = found[i - 1] if i else 0.0
        if not (front >= point).all(axis=1).any():
            front = np.concatenate([front[~(point >= front).all(axis=1)], point[None, :]])
            found[i] = hypervolume(front, reference)
    return found


def reference_values(
    objectives: Sequence[str], values: Sequence[Mapping[str, float]]
) -> dict[str, float]:
    """A reference point in the objectives' own units.

    Args:
        objectives: Their names, the accuracy first.
        values: ``objective -> value`` of at least one trial.
    """
    table = np.array([[own[name] for name in objectives] for own in values], dtype=np.float64)
    point = as_values(reference_point(as_points(table)))
    return dict(zip(objectives, map(float, point), strict=True))
