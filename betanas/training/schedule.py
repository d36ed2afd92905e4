"""Learning rates: a share of the recipe's, by the budget spent, the epoch and what was reached.

Schedules follow the share of the budget, not a number of steps, so that one fits a budget in any
unit.
"""

import math

import torch

from betanas.study.definition import Recipe

_ONE_CYCLE_WARM_UP = 0.3  # share of a one-cycle schedule in which the learning rate rises
_START = 1 / 25  # of the peak, where it rises from (Smith and Topin, 2019; torch's default)


class Plateau:
    """A factor that falls when the accuracy stops rising, as torch's ReduceLROnPlateau has it.

    Args:
        factor: What each fall multiplies with.
        patience: Evaluations without a rise (of 1e-4, relative) that are borne.
    """

    def __init__(self, factor: float, patience: int) -> None:
        self._factor, self._patience = factor, patience
        self.state = (1.0, -math.inf, 0.0)

    @property
    def factor(self) -> float:
        """The share of the learning rate that is left."""
        return self.state[0]

    def see(self, accuracy: float) -> None:
        """Takes in one evaluation."""
        factor, best, without = self.state
        if accuracy > best * (1 + 1e-4):
            best, without = accuracy, 0
        else:
            without += 1
        if without > self._patience:
            factor, without = factor * self._factor, 0
        self.state = (factor, best, without)


class LearningRate:
    """Sets the optimiser's learning rate before each step.

    Attributes:
        plateau: What a ``plateau`` schedule remembers.
    """

    def __init__(self, recipe: Recipe, optimizer: torch.optim.Optimizer) -> None:
        self._recipe, self._optimizer = recipe, optimizer
        patience = recipe.patience_epochs // recipe.evaluate_every_epochs
        self.plateau = Plateau(recipe.plateau_factor, patience)

    def before_step(self, progress: float, epochs: float) -> None:
        """Sets the rate of a step.

        Args:
            progress: Share of the budget that is spent, in [0, 1).
            epochs: Passes over the training images so far.
        """
        rate = self._recipe.learning_rate * self._factor(progress, epochs)
        for group in self._optimizer.param_groups:
            group["lr"] = rate

    def after_evaluation(self, accuracy: float) -> None:
        """Lowers the rate of a ``plateau`` schedule where the accuracy has stopped rising."""
        self.plateau.see(accuracy)

    def _factor(self, progress: float, epochs: float) -> float:
        recipe = self._recipe
        warm_up = recipe.warm_up
        if warm_up is None:
            warm_up = _ONE_CYCLE_WARM_UP if recipe.schedule == "one-cycle" else 0.0
        if progress < warm_up:
            return 1 - (1 - _START) * _descent(progress / warm_up)
        match recipe.schedule:
            case "constant":
                return 1.0
            case "plateau":
                return self.plateau.factor
            case "exponential":
                return recipe.decay_factor ** math.floor(epochs / recipe.decay_epochs)
            case "cosine" | "one-cycle":
                return _descent((progress - warm_up) / (1 - warm_up))


def _descent(share: float) -> float:
    """From 1 to 0 along half a cosine."""
    return (1 + math.cos(math.pi * min(share, 1.0))) / 2
