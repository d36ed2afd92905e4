"""From a recipe to the optimiser, its learning rates and the gradients' way between ranks."""

import math

import torch
from torch import nn
from torch.distributed.algorithms.ddp_comm_hooks import default_hooks
from torch.nn.parallel import DistributedDataParallel

from betanas.study.definition import Recipe
from betanas.training.ranks import Ranks

_WARM_UP = 0.3  # share of a one-cycle schedule in which the learning rate rises
_START = 1 / 25  # of the peak, where one-cycle begins (Smith and Topin, 2019; torch's default)


def build_optimizer(recipe: Recipe, model: nn.Module) -> torch.optim.Optimizer:
    """Builds the optimiser; weight decay spares norms and biases (all tensors of one dimension)."""
    decayed = [p for p in model.parameters() if p.ndim > 1]
    spared = [p for p in model.parameters() if p.ndim <= 1]
    groups = [
        {"params": decayed, "weight_decay": recipe.weight_decay},
        {"params": spared, "weight_decay": 0.0},
    ]
    fused = decayed[0].is_cuda
    match recipe.optimizer:
        case "adam":
            return torch.optim.Adam(groups, recipe.learning_rate, recipe.betas, fused=fused)
        case "adamw":
            return torch.optim.AdamW(groups, recipe.learning_rate, recipe.betas, fused=fused)
        case "sgd":
            return torch.optim.SGD(
                groups, recipe.learning_rate, recipe.momentum, nesterov=recipe.momentum > 0
            )
        case "rmsprop":
            return torch.optim.RMSprop(groups, recipe.learning_rate, momentum=recipe.momentum)


class LearningRate:
    """The learning rate as a function of the budget spent and of the losses seen.

    It follows the share of the budget, not a number of steps, so that one schedule fits a budget in
    any unit; ``plateau`` is torch's ReduceLROnPlateau on the validation accuracy.
    """

    def __init__(self, recipe: Recipe, optimizer: torch.optim.Optimizer) -> None:
        self._recipe = recipe
        self._optimizer = optimizer
        self._plateau = torch.optim.lr_scheduler.ReduceLROnPlateau(
            optimizer, mode="max", factor=recipe.plateau_factor, patience=recipe.patience_epochs
        )

    def before_step(self, progress: float) -> None:
        """Sets the rate for a step that begins at that share of the budget, in [0, 1)."""
        if self._recipe.schedule in ("cosine", "one-cycle"):
            factor = _factor(self._recipe.schedule, progress)
            for group in self._optimizer.param_groups:
                group["lr"] = self._recipe.learning_rate * factor

    def after_evaluation(self, accuracy: float) -> None:
        """Lowers the rate of a ``plateau`` schedule where the accuracy has stopped rising."""
        if self._recipe.schedule == "plateau":
            self._plateau.step(accuracy)


def _factor(schedule: str, progress: float) -> float:
    if schedule == "cosine":
        return _descent(progress)
    if progress < _WARM_UP:
        return 1 - (1 - _START) * _descent(progress / _WARM_UP)
    return _descent((progress - _WARM_UP) / (1 - _WARM_UP))


def _descent(share: float) -> float:
    """From 1 to 0 along half a cosine."""
    return (1 + math.cos(math.pi * min(share, 1.0))) / 2


def parallel(recipe: Recipe, model: nn.Module, ranks: Ranks) -> nn.Module:
    """Wraps the model so that backward averages gradients over the ranks; one rank needs none."""
    if ranks.size == 1:
        return model
    wrapped = DistributedDataParallel(
        model,
        device_ids=[ranks.device.index] if ranks.device.type == "cuda" else None,
        broadcast_buffers=False,
        gradient_as_bucket_view=True,
    )
    if recipe.gradient_compression == "fp16":
        wrapped.register_comm_hook(None, default_hooks.fp16_compress_hook)
    elif recipe.gradient_compression == "bf16":
        wrapped.register_comm_hook(None, default_hooks.bf16_compress_hook)
    return wrapped
