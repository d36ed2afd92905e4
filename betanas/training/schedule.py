"""Learning rates: a share of the recipe's, by the budget spent, the epoch and what was reached.

Schedules follow the share of the budget, not a number of steps, so that one fits a budget in any
unit.
"""

import math

import torch
from torch import Tensor

from betanas.study.recipe import Recipe
from betanas.training.muon import Muon

_START = 1 / 25  # of the peak, where it rises from (Smith and Topin, 2019; torch's default)


class Plateau:
    """A factor that falls when the accuracy stops rising, as torch's ReduceLROnPlateau has it.

    Args:
        factor: What each fall multiplies with.
        patience: Epochs without a rise (of 1e-4, relative) that are borne, however many evaluations
            there are in them.

    Attributes:
        state: The share that is left, the best accuracy, and the epoch of the last rise or fall.
    """

    def __init__(self, factor: float, patience: int) -> None:
        self._factor, self._patience = factor, patience
        self.state = (1.0, -math.inf, 0.0)

    @property
    def factor(self) -> float:
        """The share of the learning rate that is left."""
        return self.state[0]

    def see(self, accuracy: float, epochs: float) -> None:
        """Takes in one evaluation, after so many epochs."""
        factor, best, since = self.state
        if accuracy > best * (1 + 1e-4):
            best, since = accuracy, epochs
        elif math.floor(epochs - since + 1e-9) > self._patience:
            factor, since = factor * self._factor, epochs
        self.state = (factor, best, since)


class LearningRate:
    """Sets the optimiser's learning rate before each step.

    Attributes:
        plateau: What a ``plateau`` schedule remembers.
    """

    def __init__(self, recipe: Recipe, optimizer: torch.optim.Optimizer | Muon) -> None:
        self._recipe, self._optimizer = recipe, optimizer
        self.plateau = Plateau(recipe.plateau_factor, recipe.patience_epochs)

    def before_step(self, progress: float, epochs: float, scale: float = 1.0) -> None:
        """Sets the rate of a step.

        Args:
            progress: Share of the budget that is spent, in [0, 1).
            epochs: Passes over the training images so far.
            scale: What the number of ranks multiplies it with.
        """
        rate = self._recipe.learning_rate * self._factor(progress, epochs) * scale
        for group in self._optimizer.param_groups:
            own = rate * group.get("scale", 1.0)
            if isinstance(group["lr"], Tensor):
                group["lr"].fill_(own)
            else:
                group["lr"] = own

    def after_evaluation(self, accuracy: float, epochs: float) -> None:
        """Lowers the rate of a ``plateau`` schedule where the accuracy has stopped rising."""
        self.plateau.see(accuracy, epochs)

    def _factor(self, progress: float, epochs: float) -> float:
        recipe = self._recipe
        warm_up = recipe.warm_up_share
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
