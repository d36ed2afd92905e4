"""ProxylessNAS: a path for each choice, one of them at a time (Cai et al., 2019).

"ProxylessNAS: Direct Neural Architecture Search on Target Task and Hardware", section 3. Weights
are learnt along one path a block, drawn by its probability; gates compare two drawn paths, whose
probabilities share what they had together. The runtime is the expected one (equation 4), and only
the two drawn paths learn from it. Or gates follow the rewards of whole networks (section 3.3.2).
"""

from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor, nn

from betanas.architecture.layers import Layer
from betanas.architecture.mbconv import MBCONV, SKIP
from betanas.architecture.supernet import SupernetPlan
from betanas.models.network import build_layer
from betanas.models.supernet import ChoiceBlock, Supernet

_REWARD_DECAY = 0.9  # of the running mean that rewards are compared with


class MixedBlock(ChoiceBlock):
    """The paths of one block.

    Args:
        options: What it may be.
        rows_ms: ``choice -> ms``.
        layers: The layer of each option; None for a skipped block.

    Attributes:
        active: Which path is taken.
        other: The one it is compared with; None where it is compared with none.
    """

    def __init__(
        self, options: Sequence[str], rows_ms: dict[str, float], layers: Sequence[Layer | None]
    ) -> None:
        super().__init__(options, rows_ms)
        self.paths = nn.ModuleList(
            nn.Identity() if layer is None else build_layer(layer) for layer in layers
        )
        self.logits = nn.Parameter(torch.zeros(len(self.options)))
        rows = torch.tensor([rows_ms[choice] for choice in self.options])
        self.register_buffer("rows", rows, persistent=False)
        self.active, self.other = 0, None
        self._before: Tensor | None = None

    rows: Tensor
    active: int
    other: int | None

    def gates(self) -> list[nn.Parameter]:
        """The logits of the paths' probabilities."""
        return [self.logits]

    def draw(self, generator: torch.Generator, number: int) -> None:
        """Draws one path by its probability, or two different ones of which one is active."""
        chances = torch.softmax(self.logits.detach().cpu(), dim=0)
        number = min(number, len(chances))
        drawn = torch.multinomial(chances, number, generator=generator)
        self.active, self.other = int(drawn[0]), None
        if number == 2:
            first = int(torch.multinomial(chances[drawn], 1, generator=generator))
            self.active, self.other = int(drawn[first]), int(drawn[1 - first])
            self._before = self.logits.detach().clone()

    def settle(self) -> None:
        """Takes the most likely path."""
        self.active, self.other = int(self.logits.argmax()), None

    def rescale(self) -> None:
        """Gives two paths that were compared the probability that they had together before."""
        if self.other is None or self._before is None:
            return
        pair = [self.active, self.other]
        with torch.no_grad():
            gained = self.logits[pair].logsumexp(0) - self._before[pair].logsumexp(0)
            self.logits[pair] -= gained

    def log_chance(self) -> Tensor:
        """Logarithm of the probability of the path that is taken, shape ``()``."""
        return torch.log_softmax(self.logits, dim=0)[self.active]

    def runtime_ms(self) -> Tensor:
        """Expected over all paths where two are compared, else that of the one path."""
        if self.other is None:
            return self.rows[self.active]
        drawn = torch.zeros_like(self.logits)
        drawn[[self.active, self.other]] = 1
        logits = drawn * self.logits + (1 - drawn) * self.logits.detach()
        return torch.softmax(logits, dim=0) @ self.rows

    @property
    def choice(self) -> str:
        """The most likely path."""
        return self.options[int(self.logits.argmax())]

    @torch.no_grad()
    def probabilities(self) -> dict[str, float]:
        """Of each path."""
        return dict(zip(self.options, torch.softmax(self.logits, dim=0).tolist(), strict=True))

    def forward(self, x: Tensor) -> Tensor:
        """One path; of two that are compared the active one, with gradients to both gates."""
        y: Tensor = self.paths[self.active](x)
        if self.other is None:
            return y
        with torch.no_grad():
            z: Tensor = self.paths[self.other](x)
        chances = torch.softmax(self.logits[[self.active, self.other]], dim=0)
        binary = chances.new_tensor([1.0, 0.0]) + (chances - chances.detach())
        return binary[0].to(y.dtype) * y + binary[1].to(y.dtype) * z


class ProxylessNet(Supernet):
    """A supernet of paths; arguments as for ``Supernet``."""

    gate_betas: ClassVar[tuple[float, float]] = (0.0, 0.999)  # as published

    def __init__(self, plan: SupernetPlan, resolution: int, num_classes: int) -> None:
        super().__init__(plan, resolution, num_classes)
        self.register_buffer("reward", torch.tensor(float("nan")))
        self.settle()

    reward: Tensor

    @property
    def _mixed(self) -> list[MixedBlock]:
        return [block for block in self.blocks.values() if isinstance(block, MixedBlock)]

    def make_block(self, name: str, resolution: int, num_classes: int, place: int) -> MixedBlock:
        """As ``Supernet``."""
        largest = dict.fromkeys(self.plan.options, "5x5-6")
        layers: list[Layer | None] = []
        for choice in self.plan.options[name]:
            kernel = self.plan.kernel(largest | {name: choice})
            whole = MBCONV.decode(kernel, resolution, num_classes)
            layers.append(None if choice == SKIP else whole.layers[place])
        return MixedBlock(self.plan.options[name], dict(self.plan.rows_ms[name]), layers)

    def before_step(self, generator: torch.Generator) -> None:
        """Draws one path of each block."""
        for block in self._mixed:
            block.draw(generator, 1)

    def draw_pairs(self, generator: torch.Generator) -> None:
        """Draws two paths of each block, to be compared."""
        for block in self._mixed:
            block.draw(generator, 2)

    def settle(self) -> None:
        """Makes it the most likely network."""
        for block in self._mixed:
            block.settle()

    def after_gates(self) -> None:
        """Leaves paths that were not compared as likely as they were."""
        for block in self._mixed:
            block.rescale()

    def reinforce_loss(self, reward: float) -> Tensor:
        """Whose gradient raises the chance of the network drawn, by how good it was (equation 5).

        Args:
            reward: Of that network; the running mean of rewards is what it is compared with.
        """
        if bool(self.reward.isnan()):
            self.reward.fill_(reward)
        gain = reward - float(self.reward)
        self.reward.lerp_(torch.full_like(self.reward, reward), 1 - _REWARD_DECAY)
        chances = torch.stack([block.log_chance() for block in self._mixed])
        return -gain * chances.sum()
