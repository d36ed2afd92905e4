"""Single-Path NAS: all choices of a block in one superkernel (Stamoulis et al., 2019).

"Single-Path NAS: Designing Hardware-Efficient ConvNets in less than 4 Hours", section 3. A block is
a 5x5 one of expansion 6; a 3x3 kernel is the middle of its kernel, expansion 3 the first half of
its channels. Each part is there while its weights' norm is above a threshold, which is learnt.

Three things are otherwise than in the published code. What is not there is masked behind the
activation, and a skipped block's whole branch is: masked in the depthwise kernel alone, the bias of
batch norm would come through. The runtime of a 3x3 kernel with expansion 3 is its own row of the
table; in equation 8 it follows from two others. Dropped gates are not scaled up, so that a gate is
always 0 or 1.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.func import functional_call

from betanas.architecture.layers import Layer
from betanas.architecture.mbconv import SKIP
from betanas.architecture.supernet import SupernetPlan, gate_states
from betanas.models.network import conv_norm
from betanas.models.supernet import ChoiceBlock, Supernet

_KERNEL_SIZE = 5


class Gates(NamedTuple):
    """Which parts of a superkernel are there: 0 or 1, shape ``()`` each.

    Attributes:
        kernel: What a 5x5 kernel has around its 3x3 middle.
        expansion: The second half of the channels.
        presence: The block itself.
    """

    kernel: Tensor
    expansion: Tensor
    presence: Tensor


def indicator(excess: Tensor) -> Tensor:
    """Whether a norm is above its threshold: exactly 0 or 1, with the gradient of the sigmoid.

    >>> indicator(torch.tensor([-0.5, 2.0]))
    tensor([0., 1.])
    """
    soft = torch.sigmoid(excess)
    return (excess > 0).to(soft.dtype) + (soft - soft.detach())


class SuperBlock(ChoiceBlock):
    """One superkernel.

    Args:
        layer: The block as ``5x5-6``.
        options: What it may be: kernel sizes and expansions in all combinations, perhaps ``skip``.
        rows_ms: ``choice -> ms``.
        dropout: Share of training steps in which a gate that is open is shut.

    Attributes:
        forced: Gates in place of those that the weights say; for tests and comparisons.
    """

    ring: Tensor
    second: Tensor

    def __init__(
        self, layer: Layer, options: tuple[str, ...], rows_ms: dict[str, float], dropout: float
    ) -> None:
        super().__init__(options, rows_ms)
        y, wide, activation = layer, layer.expanded_channels, layer.activation
        self.block = nn.Sequential(
            conv_norm(y.in_channels, wide, 1, activation=activation),
            conv_norm(wide, wide, _KERNEL_SIZE, y.stride, wide, activation),
            conv_norm(wide, y.out_channels, 1, activation=None),
        )
        self.kept, self._dropout, self._adds = wide // 2, dropout, y.has_residual
        ring = torch.ones(_KERNEL_SIZE, _KERNEL_SIZE)
        ring[1:-1, 1:-1] = 0
        self.register_buffer("ring", ring, persistent=False)
        second = torch.zeros(wide, 1, 1)
        second[self.kept :] = 1
        self.register_buffer("second", second, persistent=False)
        self.thresholds = nn.ParameterDict()
        self._constant: dict[str, float] = {}
        for name, states in gate_states(self.options).items():
            if len(states) == 2:
                self.thresholds[name] = nn.Parameter(torch.zeros(()))
            else:
                self._constant[name] = float(states.pop())
        self.forced: Gates | None = None

    def gates(self) -> list[nn.Parameter]:
        """The thresholds."""
        return list(self.thresholds.values())

    def excesses(self) -> dict[str, Tensor]:
        """By how much each norm is above its threshold, where there is something to choose."""
        norms, _ = self._norms()
        return {name: norms[name] - self.thresholds[name] for name in self.thresholds}

    def now(self) -> Gates:
        """Its gates, with gradients to weights and thresholds."""
        if self.forced is not None:
            return self.forced
        excesses = self.excesses()
        like = self._depthwise().weight.new_ones(())
        return Gates(
            *(
                indicator(excesses[name]) if name in excesses else like * self._constant[name]
                for name in Gates._fields
            )
        )

    def runtime_ms(self) -> Tensor:
        """By its gates; linear in each."""
        return self.runtime_of(self.now())

    def runtime_of(self, gates: Gates) -> Tensor:
        """Runtime of gates in [0, 1]: between the table's rows, linear in each of them."""
        k, e, rows = gates.kernel, gates.expansion, self.rows_ms
        small = (1 - e) * rows["3x3-3"] + e * rows["3x3-6"]
        large = (1 - e) * rows["5x5-3"] + e * rows["5x5-6"]
        return gates.presence * ((1 - k) * small + k * large)

    @property
    def choice(self) -> str:
        """What it is at present."""
        with torch.no_grad():
            kernel, expansion, presence = (bool(gate > 0.5) for gate in self.now())
        if not presence:
            return SKIP
        return f"{'5x5' if kernel else '3x3'}-{6 if expansion else 3}"

    @torch.no_grad()
    def probabilities(self) -> dict[str, float]:
        """Sigmoids of the norms' excesses: above a half a part is there."""
        return {name: float(torch.sigmoid(x)) for name, x in self.excesses().items()}

    def force(self, choice: str) -> None:
        """Sets the gates to one choice."""
        weight = self._depthwise().weight
        states = (0, 0, 0) if choice == SKIP else (choice[0] == "5", choice[-1] == "6", 1)
        self.forced = Gates(*(weight.new_tensor(float(state)) for state in states))

    def forward(self, x: Tensor) -> Tensor:
        """Applies what is there; the rest contributes nothing."""
        gates = self.now()
        if self.training and self._dropout and self.forced is None:
            gates = self._dropped(gates)
        expand, spatial, project = self.block.children()
        _, norm, activation = spatial.children()
        conv = self._depthwise()
        middle = conv.weight * (1 - self.ring)
        kernel = middle + gates.kernel * (conv.weight * self.ring)
        y: Tensor = functional_call(conv, {"weight": kernel}, (expand(x),))
        y = activation(norm(y))
        y = y * (1 - self.second + gates.expansion * self.second).to(y.dtype)
        y = project(y)
        return x + gates.presence.to(y.dtype) * y if self._adds else y

    def _depthwise(self) -> nn.Conv2d:
        found = self.block.get_submodule("1.0")
        assert isinstance(found, nn.Conv2d)  # noqa: S101 - so it is built
        return found

    def _dropped(self, gates: Gates) -> Gates:
        """Shuts some gates that may be shut, by torch's global generator."""
        kept = {
            name: (torch.rand((), device=self.ring.device) >= self._dropout).to(self.ring.dtype)
            for name in self.thresholds
        }
        return Gates(
            *(gate * kept.get(name, 1.0) for name, gate in zip(Gates._fields, gates, strict=True))
        )

    def _norms(self) -> tuple[dict[str, Tensor], Tensor]:
        """Norms of the parts, and the depthwise kernel with its ring as it is at present."""
        weight = self._depthwise().weight
        around = torch.linalg.vector_norm(weight * self.ring)
        gate: Tensor | float = self._constant.get("kernel", 1.0)
        if "kernel" in self.thresholds:
            gate = indicator(around - self.thresholds["kernel"])
        kernel = weight * (1 - self.ring) + gate * (weight * self.ring)
        norms = {
            "kernel": around,
            "expansion": torch.linalg.vector_norm(kernel[self.kept :]),
            "presence": torch.linalg.vector_norm(kernel[: self.kept]),
        }
        return norms, kernel


class SinglePathNet(Supernet):
    """A supernet of superkernels.

    Args:
        plan: What it holds.
        resolution: Input side in pixels.
        num_classes: Outputs.
        dropout: Of gates; see ``SuperBlock``.
    """

    def __init__(
        self, plan: SupernetPlan, resolution: int, num_classes: int, dropout: float = 0.0
    ) -> None:
        self._dropout = dropout
        super().__init__(plan, resolution, num_classes)

    def make_block(self, name: str, resolution: int, num_classes: int, place: int) -> SuperBlock:
        """As ``Supernet``."""
        layer = self.plan.largest(resolution, num_classes).layers[place]
        rows = dict(self.plan.rows_ms[name])
        return SuperBlock(layer, self.plan.options[name], rows, self._dropout)

    def force(self, choices: dict[str, str]) -> None:
        """Makes it one network, whatever its weights say."""
        for name, choice in choices.items():
            block = self.blocks[name]
            assert isinstance(block, SuperBlock)  # noqa: S101 - it has no others
            block.force(choice)

    def weights_of(self, choices: dict[str, str]) -> dict[str, Tensor]:
        """The weights of one network, as ``build_model`` of its architecture takes them."""
        found, place = {}, 0
        for i, module in enumerate(self.features):
            name = self.plan.block_layers().get(i)
            if name is not None and choices[name] == SKIP:
                continue
            for key, value in module.state_dict().items():
                if not key.startswith("thresholds"):
                    part = value if name is None else _part(key, value, choices[name])
                    found[f"features.{place}.{key}"] = part
            place += 1
        others = {k: v for k, v in self.state_dict().items() if not k.startswith("features.")}
        return found | others


def _part(key: str, value: Tensor, choice: str) -> Tensor:
    """What one choice has of a superkernel's weight or statistic."""
    _, piece, kind, _ = key.split(".", 3)
    if value.ndim == 0:
        return value
    if piece == "1" and kind == "0" and choice[0] == "3":
        value = value[:, :, 1:-1, 1:-1]
    if choice[-1] == "6":
        return value
    if piece == "2":
        return value[:, : value.shape[1] // 2] if kind == "0" else value
    return value[: len(value) // 2]
