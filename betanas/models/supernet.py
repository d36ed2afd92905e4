"""What all supernets have in common: one network whose blocks hold all of a study's choices.

It is a ``BetaNet`` of the largest network; its blocks are replaced by others that choose. Training
weights and gates is ``training/supernet.py``'s.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import ClassVar

import torch
from torch import Tensor, nn

from betanas.architecture.supernet import SupernetPlan
from betanas.models.network import BetaNet, initialize


class ChoiceBlock(nn.Module, ABC):
    """One block of a supernet, ``b x in x r x r`` to ``b x out x r' x r'``.

    Args:
        options: What it may be.
        rows_ms: ``choice -> ms``.
    """

    def __init__(self, options: Sequence[str], rows_ms: Mapping[str, float]) -> None:
        super().__init__()
        self.options = tuple(options)
        self.rows_ms = dict(rows_ms)

    @property
    @abstractmethod
    def choice(self) -> str:
        """What it is at present."""

    @abstractmethod
    def gates(self) -> list[nn.Parameter]:
        """What decides that, beside the weights."""

    @abstractmethod
    def runtime_ms(self) -> Tensor:
        """Differentiable in what decides, shape ``()``."""

    @abstractmethod
    def probabilities(self) -> dict[str, float]:
        """What decides, in numbers in [0, 1] for people."""


class Supernet(BetaNet):
    """A network of choices: ``b x 3 x R x R`` images to ``b x classes`` logits of the present one.

    Weights are fresh, from torch's global generator.

    Args:
        plan: What it holds.
        resolution: Input side in pixels.
        num_classes: Outputs.

    Attributes:
        plan: What it holds.
        blocks: The blocks that choose, by name.
        gate_betas: Of Adam for the gates.
    """

    gate_betas: ClassVar[tuple[float, float]] = (0.9, 0.999)

    def __init__(self, plan: SupernetPlan, resolution: int, num_classes: int) -> None:
        architecture = plan.largest(resolution, num_classes)
        super().__init__(architecture, num_classes)
        self.plan = plan
        self.blocks: dict[str, ChoiceBlock] = {}
        for place, name in plan.block_layers().items():
            block = self.make_block(name, resolution, num_classes, place)
            self.features[place] = self.blocks[name] = block
        initialize(self)

    def make_block(self, name: str, resolution: int, num_classes: int, place: int) -> ChoiceBlock:
        """The block of that name, which is layer ``place`` of the largest network."""
        raise NotImplementedError

    def choices(self) -> dict[str, str]:
        """The network that it is at present."""
        return {name: block.choice for name, block in self.blocks.items()}

    def gates(self) -> list[nn.Parameter]:
        """All that decides which network it is, beside the weights."""
        return [gate for block in self.blocks.values() for gate in block.gates()]

    def runtime_ms(self) -> Tensor:
        """Runtime, differentiable, shape ``()``; of a hard choice exactly the sum of its rows."""
        rows = torch.stack([block.runtime_ms() for block in self.blocks.values()])
        return rows.sum() + self.plan.fixed_ms

    def probabilities(self) -> dict[str, dict[str, float]]:
        """What decides, by block."""
        return {name: block.probabilities() for name, block in self.blocks.items()}
