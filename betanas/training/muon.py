"""Muon for convolutions: their weights' gradients orthogonalised, all other weights by Adam.

K. Jordan et al., "Muon: An optimizer for hidden layers in neural networks", 2024; as in his record
on CIFAR-10 a convolution's weight is a matrix of ``out x (in * height * width)``, and has the norm
of an orthogonal one before each step: the batch norm behind it takes its scale away, so that the
learning rate alone says by how much it turns. The update is ``torch.optim.Muon``'s, which knows
matrices only: it is given views of the weights.
"""

from typing import Any

import torch
from torch import Tensor, nn

from betanas.study.recipe import Recipe

_STEPS = 3  # of the Newton-Schulz iteration: what the record on CIFAR-10 makes do with


class Muon:
    """Two optimisers as one.

    Each group of parameters has ``scale``, its learning rate's share of the recipe's.

    Args:
        recipe: ``learning_rate`` is Adam's, ``muon_learning_rate`` that of the convolutions.
        model: Its convolutions are Muon's, but for grouped ones, whose matrices are thin, and those
            with a bias, which no norm follows.
    """

    def __init__(self, recipe: Recipe, model: nn.Module) -> None:
        convolutions = [
            m.weight
            for m in model.modules()
            if isinstance(m, nn.Conv2d) and m.groups == 1 and m.bias is None
        ]
        theirs = {id(w) for w in convolutions}
        others = [p for p in model.parameters() if id(p) not in theirs]
        groups = [
            {"params": [p for p in others if p.ndim > 1], "weight_decay": recipe.weight_decay},
            {"params": [p for p in others if p.ndim <= 1], "weight_decay": 0.0},
        ]
        self._pairs = [(w, nn.Parameter(_matrix(w.detach()))) for w in convolutions]
        self._muon = torch.optim.Muon(
            [view for _, view in self._pairs],
            recipe.muon_learning_rate,
            weight_decay=0.0,  # which their norm, set before each step, would undo
            momentum=recipe.momentum,
            ns_steps=_STEPS,
        )
        self._adam = torch.optim.Adam(
            groups, recipe.learning_rate, recipe.betas, recipe.optimizer_epsilon, fused=True
        )
        self._muon.param_groups[0]["scale"] = recipe.muon_learning_rate / recipe.learning_rate
        self.param_groups = [*self._muon.param_groups, *self._adam.param_groups]

    @torch.no_grad()
    def step(self) -> None:
        """Changes all weights that have gradients."""
        for weight, view in self._pairs:
            view.grad = None if weight.grad is None else _matrix(weight.grad)
            view.mul_(min(view.shape) ** 0.5 / view.norm())
        self._muon.step()  # type: ignore[no-untyped-call]
        self._adam.step()

    def state_dict(self) -> dict[str, Any]:
        """Both states; ``load_state_dict`` goes on from them."""
        return {"muon": self._muon.state_dict(), "adam": self._adam.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Goes on where ``state_dict`` was called."""
        self._muon.load_state_dict(state["muon"])
        self._adam.load_state_dict(state["adam"])
        self.param_groups[:] = [*self._muon.param_groups, *self._adam.param_groups]


def _matrix(weight: Tensor) -> Tensor:
    """A convolution's weights as a matrix of one row for each output, in the same memory."""
    if weight.is_contiguous(memory_format=torch.channels_last):
        return weight.permute(0, 2, 3, 1).view(len(weight), -1)
    return weight.view(len(weight), -1)
