"""Stochastic depth (Huang et al., 2016) whose noise does not depend on the number of ranks."""

import torch
from torch import Tensor, nn
from torchvision.ops.stochastic_depth import StochasticDepth

from betanas.devices.seeds import Stream, torch_generator
from betanas.devices.work import upload


class _Branch(nn.Module):
    """In place of torchvision's: scales each image's branch by 0 or 1 / survival."""

    scale: Tensor

    def __init__(self, scale: Tensor) -> None:
        super().__init__()
        self.register_buffer("scale", scale, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """Scales the images of a training batch; others pass."""
        # A float32 factor would make the whole residual stream float32.
        return x * self.scale.to(x.dtype) if self.training else x


def set_stochastic_depth(model: nn.Module, last: float, power: float = 1.0) -> None:
    """Drops the l-th of L residual branches with probability ``last * (l / L)**power``.

    With power 1 that is the paper's rule (equation 4), with 0 all are dropped alike. Networks of
    others whose residual branches have no ``StochasticDepth`` stay as they are.

    Args:
        model: Changed in place.
        last: Probability of the last branch, in [0, 1).
        power: At least 0.
    """
    branches = [module for module in model.modules() if isinstance(module, StochasticDepth)]
    for number, branch in enumerate(branches, start=1):
        branch.p = last * (number / len(branches)) ** power


class DepthNoise:
    """The noise of all residual branches of a model, drawn for whole batches.

    torchvision draws on each rank and in each layer as the layer is met; here the noise of some
    batches is drawn at once, and cut into the ranks' shares.

    Args:
        model: Its ``StochasticDepth`` modules are replaced; those that never drop are left.
        seed: The training's.
        per_batch: Images of a batch.
        mine: This rank's share of them.
        steps_at_once: Batches whose noise is drawn together.
    """

    def __init__(
        self, model: nn.Module, seed: int, per_batch: int, mine: slice, steps_at_once: int
    ) -> None:
        self._seed, self._per_batch, self._mine = seed, per_batch, mine
        self._steps_at_once = steps_at_once
        self._group, self._noise = -1, torch.empty(0)
        found = [
            (parent, name, child)
            for parent in model.modules()
            for name, child in parent.named_children()
            if isinstance(child, StochasticDepth) and child.p > 0 and child.mode == "row"
        ]
        self._survival = torch.tensor([1 - child.p for _, _, child in found])
        device = next(model.parameters()).device
        self._scales = torch.ones(len(found), mine.stop - mine.start, 1, 1, 1, device=device)
        for (parent, name, _), scale in zip(found, self._scales, strict=True):
            setattr(parent, name, _Branch(scale))

    def load(self, number: int) -> None:
        """Makes a batch's noise the one that the next forward pass uses."""
        if not len(self._survival):
            return
        group, place = divmod(number, self._steps_at_once)
        if group != self._group:
            generator = torch_generator(self._seed, Stream.DEPTH, group)
            shape = (self._steps_at_once, len(self._survival), self._per_batch)
            survival = self._survival[:, None]
            kept = torch.rand(shape, generator=generator) < survival
            own = kept[..., self._mine] / survival.clamp(min=torch.finfo().tiny)
            self._group, self._noise = group, upload(own, self._scales.device)
        self._scales.copy_(self._noise[place].view_as(self._scales))
