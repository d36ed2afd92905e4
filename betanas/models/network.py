"""From an architecture to an ``nn.Module``, out of torchvision's own pieces.

Blocks as in MobileNetV2 and EfficientNetV2 (Tan and Le, 2021), torchvision's
``models/efficientnet.py``; every convolution has kernel size 3, padding 1, or size 1, and no bias.
"""

from functools import partial

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode
from torchvision import models
from torchvision.ops.misc import Conv2dNormActivation, SqueezeExcitation
from torchvision.ops.stochastic_depth import StochasticDepth

from betanas.architecture.layers import IMAGE_CHANNELS, Architecture, Block, Layer
from betanas.architecture.reference import Network, ReferenceModel

_ConvNormSiLU = partial(Conv2dNormActivation, activation_layer=nn.SiLU, inplace=True)


class ResidualBlock(nn.Module):
    """A Fused-MBConv or MBConv layer, ``b x in x r x r`` to ``b x out x r' x r'``."""

    def __init__(self, layer: Layer) -> None:
        super().__init__()
        expanded = layer.expanded_channels
        project = Conv2dNormActivation(
            expanded, layer.out_channels, kernel_size=1, activation_layer=None
        )
        if layer.block is Block.FMBC:
            pieces = [_ConvNormSiLU(layer.in_channels, expanded, stride=layer.stride), project]
        else:
            pieces = [
                _ConvNormSiLU(layer.in_channels, expanded, kernel_size=1),
                _ConvNormSiLU(expanded, expanded, stride=layer.stride, groups=expanded),
                SqueezeExcitation(
                    expanded, layer.squeeze_channels, activation=partial(nn.SiLU, inplace=True)
                ),
                project,
            ]
        self.block = nn.Sequential(*pieces)
        self.drop = StochasticDepth(layer.stochastic_depth, "row") if layer.has_residual else None

    def forward(self, x: Tensor) -> Tensor:
        """Applies the block, plus the input where there is a residual connection."""
        y: Tensor = self.block(x)
        return y if self.drop is None else x + self.drop(y)


class BetaNet(nn.Module):
    """A whole network: ``b x 3 x R x R`` images to ``b x num_classes`` logits."""

    def __init__(self, architecture: Architecture, num_classes: int) -> None:
        super().__init__()
        head, *body = architecture.layers
        self.features = nn.Sequential(
            _ConvNormSiLU(IMAGE_CHANNELS, head.out_channels, stride=2),
            *(ResidualBlock(layer) for layer in body),
        )
        last = architecture.layers[-1].out_channels
        self.latent = _ConvNormSiLU(last, architecture.latent_channels, kernel_size=1)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.classifier = nn.Linear(architecture.latent_channels, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        """Classifies a batch of normalised images."""
        return self.classifier(self.pool(self.latent(self.features(x))).flatten(1))  # type: ignore[no-any-return]


def build_model(architecture: Architecture, num_classes: int | None = None) -> BetaNet:
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
    """
    model = BetaNet(architecture, num_classes or architecture.num_classes)
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out")
            if module.bias is not None:
                nn.init.zeros_(module.bias)
        elif isinstance(module, nn.Linear):
            bound = module.out_features**-0.5
            nn.init.uniform_(module.weight, -bound, bound)
            nn.init.zeros_(module.bias)
    return model


# They answer with more than logits, or want one input side only.
_OTHER_KINDS = ("googlenet", "inception", "vit", "maxvit", "quantized")


def reference_names() -> list[str]:
    """The names of torchvision's classifiers that can take the place of ours."""
    names = models.list_models(module=models)
    return [name for name in names if not name.startswith(_OTHER_KINDS)]


def build_network(network: Network) -> nn.Module:
    """Builds ours or torchvision's, with fresh weights from torch's global generator."""
    if isinstance(network, ReferenceModel):
        built: nn.Module = models.get_model(
            network.name, weights=None, num_classes=network.num_classes
        )
        return built
    return build_model(network)


@torch.inference_mode()
def count_macs(model: nn.Module, resolution: int) -> int:
    """Multiply-adds of one image in convolutions and linear layers, by torch's own count."""
    model = model.eval()
    image = torch.zeros(1, IMAGE_CHANNELS, resolution, resolution)
    with FlopCounterMode(display=False) as counter:
        model(image)
    return int(counter.get_total_flops()) // 2
