"""``grid``: every point of a regular grid once, in an order that the study's seed shuffles.

As EfficientNet's multipliers were found (Tan and Le, 2019, section 3.3): of the 9,261 points with
steps of 0.05 from 1 to 2 in alpha, beta and gamma, 108 lie in the band of the family.
"""

from functools import cached_property

import numpy as np

from betanas.arrays import FloatArray
from betanas.errors import InputError
from betanas.parameters import Choice, Integer, Real
from betanas.search.situation import Situation
from betanas.search.space import Space

_MOST_POINTS = 1_000_000
_CHUNK = 1024  # points that are assessed at a time
_DIGITS = 10  # 1 + 3 * 0.05 is meant to be 1.15


class Grid:
    """Proposes the points of a grid that are feasible, and none that is known by then.

    Points that decode to one network are one experiment, of which the first is proposed.

    Args:
        space: The ranges; a whole number and a choice have all of their values.
        seed: Of the order.
        step: Between neighbours in a real number, from its lower end.

    Raises:
        InputError: For a grid of more than a million points.
    """

    def __init__(self, space: Space, seed: int, step: float) -> None:
        self._space, self._seed = space, seed
        self._axes = [_values(space.parameters[i], step) for i in range(len(space.names))]
        number = int(np.prod([float(len(axis)) for axis in self._axes]))
        if number > _MOST_POINTS:
            raise InputError(
                f"search.sampler = grid must have at most {_MOST_POINTS:,} points, but has "
                f"{number:,}; raise search.grid_step = {step:g}, or fix some parameters"
            )

    def propose(
        self, situation: Situation, rng: np.random.Generator
    ) -> tuple[FloatArray | None, str]:
        """The next feasible and new point; None when there is none left."""
        for start in range(0, len(self.points), _CHUNK):
            part = self.points[start : start + _CHUNK]
            for kernel in part[situation.rules.assess(part).feasible]:
                if situation.rules.identity(kernel) not in situation.known:
                    return kernel, ""
        return None, f"all {len(self.points):,} points of the grid are known or infeasible"

    @cached_property
    def points(self) -> FloatArray:
        """All points, ``n x d``, shuffled."""
        places = np.meshgrid(*self._axes, indexing="ij")
        points = np.stack([p.ravel() for p in places], axis=1)
        return np.asarray(np.random.default_rng(self._seed).permutation(points))


def _values(parameter: object, step: float) -> FloatArray:
    """What one parameter has in the grid, as numbers of a kernel."""
    if isinstance(parameter, Choice):
        return np.array(parameter.codes)
    assert isinstance(parameter, Real)  # noqa: S101 - the only other kind
    if isinstance(parameter, Integer):
        return np.arange(parameter.low, parameter.high + 1)
    number = 1 + int((parameter.high - parameter.low) / step + 1e-9)
    values = np.round(parameter.low + step * np.arange(number), _DIGITS)
    return np.clip(values, parameter.low, parameter.high)
