"""From an architecture to an ``nn.Module``, out of torchvision's own pieces.

Blocks as in MobileNetV2 and EfficientNetV2 (Tan and Le, 2021), torchvision's
``models/efficientnet.py``; every convolution has kernel size 3, padding 1, or size 1, and no bias.
"""

from functools import partial

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode
from torchvision.ops.misc import Conv2dNormActivation, SqueezeExcitation
from torchvision.ops.stochastic_depth import StochasticDepth

from betanas.architecture.cells import CellNetwork
from betanas.architecture.layers import IMAGE_CHANNELS, Activation, Architecture, Block, Layer
from betanas.architecture.nasnet_cells import SumCellNetwork
from betanas.architecture.reference import TIMM, Network, ReferenceModel
from betanas.models.cellnet import CellNet
from betanas.models.nasnet import NASNetModule
from betanas.models.references import build_torchvision, check_torchvision
from betanas.models.timm_models import build_timm, check_timm

_ACTIVATIONS: dict[Activation, type[nn.Module]] = {
    Activation.SILU: nn.SiLU,
    Activation.RELU: nn.ReLU,
    Activation.GELU: nn.GELU,
    Activation.RELU6: nn.ReLU6,
}


def conv_norm(
    in_channels: int,
    out_channels: int,
    kernel_size: int = 3,
    stride: int = 1,
    groups: int = 1,
    activation: Activation | None = Activation.SILU,
) -> Conv2dNormActivation:
    """Convolution, batch norm, activation unless None; the side is divided by the stride alone."""
    kind = None if activation is None else _ACTIVATIONS[activation]
    in_place = None if activation in (None, Activation.GELU) else True
    return Conv2dNormActivation(
        in_channels,
        out_channels,
        kernel_size,
        stride,
        groups=groups,
        activation_layer=kind,
        inplace=in_place,
    )


class ResidualBlock(nn.Module):
    """One layer but a CNA, ``b x in x r x r`` to ``b x out x r' x r'``.

    ``block`` is its branch; ``RES`` has another one for the input where shapes differ, and its last
    activation after the sum.
    """

    def __init__(self, layer: Layer) -> None:
        super().__init__()
        stride = 1 if layer.pools else layer.stride
        self.block = nn.Sequential(*_branch(layer, stride))
        self.drop = StochasticDepth(layer.stochastic_depth, "row") if layer.has_residual else None
        if layer.block is Block.RES:
            self.shortcut = (
                None
                if layer.has_residual
                else conv_norm(layer.in_channels, layer.out_channels, 1, stride, activation=None)
            )
            self.last = _ACTIVATIONS[layer.activation]()
        self._is_basic = layer.block is Block.RES

    def forward(self, x: Tensor) -> Tensor:
        """Applies the block, plus the input where there is a residual connection."""
        y: Tensor = self.block(x)
        if self.drop is not None:
            y = x + self.drop(y)
        elif self._is_basic and self.shortcut is not None:
            y = y + self.shortcut(x)
        return self.last(y) if self._is_basic else y


def _branch(layer: Layer, stride: int) -> list[nn.Module]:
    """The convolutions of a layer but a CNA, in their order."""
    y, expanded, inner = layer, layer.expanded_channels, layer.inner_channels
    match y.block:
        case Block.RES:
            first = conv_norm(
                y.in_channels, y.out_channels, y.kernel_size, stride, y.groups, y.activation
            )
            second = conv_norm(
                y.out_channels, y.out_channels, y.kernel_size, 1, y.groups, activation=None
            )
            return [first, second]
        case Block.CNX:
            return [
                conv_norm(y.in_channels, y.in_channels, y.kernel_size, stride, y.in_channels, None),
                nn.Conv2d(y.in_channels, expanded, 1),
                _ACTIVATIONS[y.activation](),
                nn.Conv2d(expanded, y.out_channels, 1),
            ]
        case Block.FMBC if not expanded:
            return [
                conv_norm(
                    y.in_channels, y.out_channels, y.kernel_size, stride, activation=y.activation
                )
            ]
        case Block.FMBC:
            pieces: list[nn.Module] = [
                conv_norm(y.in_channels, expanded, y.kernel_size, stride, activation=y.activation)
            ]
        case _:
            pieces = []
            if expanded:
                pieces.append(conv_norm(y.in_channels, expanded, 1, activation=y.activation))
            pieces.append(conv_norm(inner, inner, y.kernel_size, stride, inner, y.activation))
    if y.squeeze_channels:
        silu = partial(nn.SiLU, inplace=True)
        pieces.append(SqueezeExcitation(inner, y.squeeze_channels, activation=silu))
    return [*pieces, conv_norm(inner, y.out_channels, 1, activation=None)]


def build_layer(layer: Layer) -> nn.Module:
    """One layer; one that contracts by pooling has the pooling behind it."""
    y = layer
    if y.block is Block.CNA:
        stride = 1 if y.pools else y.stride
        built: nn.Module = conv_norm(
            y.in_channels, y.out_channels, y.kernel_size, stride, y.groups, y.activation
        )
    else:
        built = ResidualBlock(y)
    return nn.Sequential(built, nn.MaxPool2d(2, ceil_mode=True)) if y.pools else built


class BetaNet(nn.Module):
    """A whole network: ``b x 3 x R x R`` images to ``b x num_classes`` logits."""

    def __init__(self, architecture: Architecture, num_classes: int) -> None:
        super().__init__()
        self.features = nn.Sequential(*map(build_layer, architecture.layers))
        last, latent = architecture.layers[-1], architecture.latent_channels
        self.latent: nn.Module = nn.Identity()
        if latent:
            self.latent = conv_norm(last.out_channels, latent, 1, activation=last.activation)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.classifier = nn.Linear(latent or last.out_channels, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        """Classifies a batch of normalised images."""
        return self.classifier(self.pool(self.latent(self.features(x))).flatten(1))  # type: ignore[no-any-return]


def build_model(
    architecture: Architecture, num_classes: int | None = None, *, auxiliary: bool = False
) -> BetaNet | CellNet | NASNetModule:
    """Builds the network, with fresh weights from torch's global generator.

    Convolutions start as in torchvision's EfficientNet (He et al., 2015, fan-out), the linear layer
    uniform within 1 / sqrt(num_classes), batch norms as the identity.

        >>> from betanas.architecture.layers import Block, Layer
        >>> head = Layer(Block.CNA, 3, 8, 2, 32, 16, 0, 0, 0.0, 1.0, 1.0)
        >>> model = build_model(Architecture(32, 10, latent_channels=16, layers=(head,)))
        >>> tuple(model(torch.zeros(2, 3, 32, 32)).shape)
        (2, 10)

    Args:
        architecture: What to build.
        num_classes: Outputs; the architecture's own number if left out.
        auxiliary: Whether a NASNet gets its auxiliary head, and answers twice while it trains.
    """
    classes = num_classes or architecture.num_classes
    model: BetaNet | CellNet | NASNetModule
    if isinstance(architecture, CellNetwork):
        model = CellNet(architecture, classes)
    elif isinstance(architecture, SumCellNetwork):
        model = NASNetModule(architecture, classes, auxiliary=auxiliary)
    else:
        model = BetaNet(architecture, classes)
    initialize(model)
    return model


def initialize(model: nn.Module) -> None:
    """Gives a network fresh weights, as ``build_model`` says."""
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out")
            if module.bias is not None:
                nn.init.zeros_(module.bias)
        elif isinstance(module, nn.Linear):
            bound = module.out_features**-0.5
            nn.init.uniform_(module.weight, -bound, bound)
            nn.init.zeros_(module.bias)


def check_reference(name: str) -> None:
    """Raises InputError if neither torchvision nor timm has a classifier of that name."""
    if name.startswith(TIMM):
        check_timm(name)
    else:
        check_torchvision(name)


def build_network(network: Network, *, auxiliary: bool = False) -> nn.Module:
    """Builds ours, torchvision's or timm's, with fresh weights from torch's global generator.

    Args:
        network: What to build.
        auxiliary: Whether one that has an auxiliary head (``heads.py``) gets it, to be trained.
    """
    if isinstance(network, ReferenceModel):
        if network.name.startswith(TIMM):
            return build_timm(network)
        return build_torchvision(network)
    return build_model(network, auxiliary=auxiliary)


@torch.inference_mode()
def count_macs(model: nn.Module, resolution: int) -> int:
    """Multiply-adds of one image in convolutions and linear layers, by torch's own count."""
    model = model.eval()
    image = torch.zeros(1, IMAGE_CHANNELS, resolution, resolution)
    with FlopCounterMode(display=False) as counter:
        model(image)
    return int(counter.get_total_flops()) // 2
