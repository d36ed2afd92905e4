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
# A matrix is some thirty small kernels, one after the other; a CUDA graph may run those of several
# matrices side by side.
_LANES = 8


class _Lane:
    """Some of the convolutions, whose steps know nothing of the others'.

    Args:
        weights: Theirs, by their places among all.
        recipe: For the momentum.
    """

    def __init__(self, weights: dict[int, Tensor], recipe: Recipe) -> None:
        self._weights = list(weights.values())
        self._views = [_matrix(w.detach()) for w in self._weights]
        # What a step adds to each at a rate of one: the rate may be a tensor, unlike torch's.
        self._turns: list[Tensor] = [nn.Parameter(torch.zeros_like(view)) for view in self._views]
        self.optimizer = torch.optim.Muon(
            self._turns,
            1.0,
            weight_decay=0.0,  # which their norm, set before each step, would undo
            momentum=recipe.momentum,
            ns_steps=_STEPS,
        )
        self._by_place = dict(zip(weights, self._turns, strict=True))

    def step(self, rate: Any) -> None:
        """Turns the weights that have gradients; the rate is a number or a tensor."""
        for weight, view, turn in zip(self._weights, self._views, self._turns, strict=True):
            turn.grad = None if weight.grad is None else _matrix(weight.grad)
            view.mul_(min(view.shape) ** 0.5 / view.norm())
        torch._foreach_zero_(self._turns)
        self.optimizer.step()  # type: ignore[no-untyped-call]
        torch._foreach_mul_(self._turns, rate)
        torch._foreach_add_(self._views, self._turns)

    def state(self) -> dict[int, dict[str, Tensor]]:
        """What is remembered of each convolution that has been turned, by its place."""
        states = self.optimizer.state
        return {place: states[turn] for place, turn in self._by_place.items() if turn in states}

    def restore(self, state: dict[int, dict[str, Tensor]]) -> None:
        """Goes on from what ``state`` said, perhaps on another device."""
        for place, turn in self._by_place.items():
            if place in state:
                own = {name: tensor.to(turn.device) for name, tensor in state[place].items()}
                self.optimizer.state[turn] = own


class Muon:
    """Muon and Adam as one optimiser.

    Each group of parameters has a learning rate ``lr``, a number or a tensor of shape ``()``; the
    first one's is its ``scale`` times the recipe's.

    Args:
        recipe: ``learning_rate`` is Adam's, ``muon_learning_rate`` that of the convolutions.
        model: Its convolutions are Muon's, but for grouped ones, whose matrices are thin, and those
            with a bias, which no norm follows.

    Attributes:
        param_groups: The convolutions, other tensors, and those of one dimension.
        parts: Torch's optimisers within.
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
        self._adam = torch.optim.Adam(
            groups, recipe.learning_rate, recipe.betas, recipe.optimizer_epsilon, fused=True
        )
        on_gpu = any(w.is_cuda for w in convolutions)
        by_size = sorted(enumerate(convolutions), key=lambda item: -item[1].numel())
        shares = (dict(by_size[i::_LANES]) for i in range(_LANES)) if on_gpu else [dict(by_size)]
        self._lanes = [_Lane(share, recipe) for share in shares if share]
        self._turned: dict[str, Any] = {
            "params": convolutions,
            "lr": recipe.muon_learning_rate,
            "weight_decay": 0.0,
            "scale": recipe.muon_learning_rate / recipe.learning_rate,
        }
        self.param_groups = [self._turned, *self._adam.param_groups]
        self.parts = (*(lane.optimizer for lane in self._lanes), self._adam)

    @torch.no_grad()
    def step(self) -> None:
        """Changes all weights that have gradients."""
        rate = self._turned["lr"]
        if len(self._lanes) > 1 and torch.cuda.is_current_stream_capturing():
            self._capture_side_by_side(rate)
        else:
            for lane in self._lanes:
                lane.step(rate)
        self._adam.step()

    def _capture_side_by_side(self, rate: Any) -> None:
        """Lanes that a graph may run at the same time.

        Their streams are urgent ones, for nobody else here takes those: torch's streams come from
        pools and return, and what is captured must share no cuBLAS workspace with what is not.
        """
        main = torch.cuda.current_stream()
        streams = [torch.cuda.Stream(priority=-1) for _ in self._lanes]  # type: ignore[no-untyped-call]
        for lane, stream in zip(self._lanes, streams, strict=True):
            stream.wait_stream(main)
            with torch.cuda.stream(stream):
                lane.step(rate)
        for stream in streams:
            main.wait_stream(stream)

    def state_dict(self) -> dict[str, Any]:
        """Both states; ``load_state_dict`` goes on from them."""
        turned = {place: s for lane in self._lanes for place, s in lane.state().items()}
        return {"muon": {"state": turned}, "adam": self._adam.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Goes on where ``state_dict`` was called."""
        for lane in self._lanes:
            lane.restore(state["muon"]["state"])
        self._adam.load_state_dict(state["adam"])
        self.param_groups[:] = [self._turned, *self._adam.param_groups]


def _matrix(weight: Tensor) -> Tensor:
    """A convolution's weights as a matrix of one row for each output, in the same memory."""
    if weight.is_contiguous(memory_format=torch.channels_last):
        return weight.permute(0, 2, 3, 1).view(len(weight), -1)
    return weight.view(len(weight), -1)
