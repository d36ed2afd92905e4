"""Which parameters matter, asked in several ways; and how the accuracy depends on each."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from betanas.analysis.axes import ends
from betanas.arrays import FloatArray
from betanas.parameters import Choice, Integer, Parameter, Real

GRID = 21
BACKGROUND = 32

Predict = Callable[[FloatArray], tuple[FloatArray, FloatArray]]
"""From kernels, ``n x d``, to the mean and standard deviation of their accuracy, ``n`` each."""


def shares(weights: Mapping[str, float]) -> dict[str, float]:
    """Scales weights >= 0 to a sum of 1; all zero stay zero."""
    total = sum(weights.values())
    return {name: float(w) / total if total > 0 else 0.0 for name, w in weights.items()}


def length_scale_importance(length_scales: Mapping[str, float]) -> dict[str, float]:
    """Shares of the inverse length scales: a short one means that the accuracy changes quickly.

    Args:
        length_scales: Of each parameter, on the unit cube.
    """
    return shares({name: 1 / scale for name, scale in length_scales.items()})


@dataclass(frozen=True, slots=True)
class Dependence:
    """How the model's accuracy depends on one parameter, all others as they were in the trials.

    Attributes:
        name: The parameter.
        grid: Its values, ``m``; of a choice the options' numbers.
        mean: Mean prediction, ``m``.
        std: Mean standard deviation of the predictions, ``m``: what the model does not know about
            one kernel, which is more than what it does not know about their mean.
        options: What the numbers of ``grid`` stand for, if it is a choice.
    """

    name: str
    grid: FloatArray
    mean: FloatArray
    std: FloatArray
    options: tuple[str, ...] = ()

    @property
    def values(self) -> list[float | str]:
        """The grid as people read it."""
        return list(self.options) or self.grid.tolist()


def partial_dependence(
    predict: Predict,
    kernels: FloatArray,
    parameters: Sequence[Parameter],
    points: int = GRID,
) -> list[Dependence]:
    """Partial dependence (Friedman, 2001) of a model on each parameter that is not fixed.

    Args:
        predict: The model.
        kernels: Measured kernels, ``n x d``; up to ``BACKGROUND`` of them, evenly chosen, are the
            population over which predictions are averaged.
        parameters: d of them, in the order of the kernels' columns.
        points: Values along each number; of whole numbers no more than there are.
    """
    chosen = np.unique(np.linspace(0, len(kernels) - 1, BACKGROUND).round().astype(np.int64))
    background = kernels[chosen]
    found = []
    for column, parameter in enumerate(parameters):
        grid, options = _grid(parameter, points)
        if len(grid) < 2:
            continue
        asked = np.repeat(background[None], len(grid), axis=0)
        asked[:, :, column] = grid[:, None]
        mean, std = predict(asked.reshape(-1, background.shape[1]))
        mean, std = (y.reshape(len(grid), len(background)).mean(1) for y in (mean, std))
        found.append(Dependence(parameter.name, grid, mean, std, options))
    return found


def _grid(parameter: Parameter, points: int) -> tuple[FloatArray, tuple[str, ...]]:
    """Values along a parameter, on the scale that is searched evenly; for a choice, its options."""
    if isinstance(parameter, Choice):
        return np.array([parameter.number(o) for o in parameter.options]), parameter.options
    low, high = ends(parameter)
    is_log = isinstance(parameter, Real) and parameter.log
    grid = np.geomspace(low, high, points) if is_log else np.linspace(low, high, points)
    return np.unique(grid.round() if isinstance(parameter, Integer) else grid), ()


def main_effects(dependence: Sequence[Dependence]) -> dict[str, float]:
    """Shares of the variance along each partial dependence: what a parameter does by itself.

    Unlike the length scales, this counts what a parameter does through the size of the network.
    """
    return shares({d.name: float(np.var(d.mean)) for d in dependence})
