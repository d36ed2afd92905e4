"""The torch module is what the architecture describes."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn
from torchvision.ops.misc import SqueezeExcitation
from torchvision.ops.stochastic_depth import StochasticDepth

from betanas.architecture.decoding import decode
from betanas.architecture.families import FAMILIES
from betanas.architecture.layers import Architecture, Block, Layer
from betanas.models.depth import set_stochastic_depth
from betanas.models.network import BetaNet, ResidualBlock, build_model


def small(family: str, resolution: int = 32, **changed: float) -> Architecture:
    chosen = FAMILIES[family]
    kernel = {**chosen.published, "K": 3.2, "B": 0.4, "E1": 3.0, **changed}
    return decode(chosen, kernel, resolution, 10)


BOTH = [small("betanet2"), small("betanet3", k=2.5)]
IDS = ["betanet2", "betanet3"]


def convolutions(module: nn.Module) -> list[nn.Conv2d]:
    return [m for m in module.modules() if isinstance(m, nn.Conv2d)]


def shape(conv: nn.Conv2d) -> tuple[int, ...]:
    assert conv.kernel_size[0] == conv.kernel_size[1]
    assert conv.stride[0] == conv.stride[1]
    assert conv.padding == ((conv.kernel_size[0] - 1) // 2,) * 2
    assert conv.dilation == (1, 1)
    return (
        conv.in_channels,
        conv.out_channels,
        conv.kernel_size[0],
        conv.stride[0],
        conv.groups,
    )


def expected_convolutions(y: Layer) -> list[tuple[int, ...]]:
    e = y.expanded_channels
    if y.block is Block.CNA:
        return [(3, y.out_channels, 3, y.stride, 1)]
    if y.block is Block.FMBC:
        return [(y.in_channels, e, 3, y.stride, 1), (e, y.out_channels, 1, 1, 1)]
    return [
        (y.in_channels, e, 1, 1, 1),
        (e, e, 3, y.stride, e),
        (e, y.squeeze_channels, 1, 1, 1),
        (y.squeeze_channels, e, 1, 1, 1),
        (e, y.out_channels, 1, 1, 1),
    ]


def names(module: nn.Module) -> list[str]:
    kinds = (nn.Conv2d, nn.BatchNorm2d, nn.SiLU, nn.Sigmoid)
    return [type(m).__name__ for m in module.modules() if isinstance(m, kinds)]


@pytest.mark.parametrize("architecture", BOTH, ids=IDS)
def test_blocks_are_as_described(architecture: Architecture) -> None:
    model = build_model(architecture)
    assert {y.block for y in architecture.layers} == {Block.CNA, Block.FMBC, Block.MBC}
    for y, module in zip(architecture.layers, model.features, strict=True):
        assert [shape(c) for c in convolutions(module)] == expected_convolutions(y)
    last = architecture.layers[-1].out_channels
    assert [shape(c) for c in convolutions(model.latent)] == [
        (last, architecture.latent_channels, 1, 1, 1)
    ]
    assert (model.classifier.in_features, model.classifier.out_features) == (
        architecture.latent_channels,
        10,
    )
    assert model.classifier.bias is not None


@pytest.mark.parametrize("architecture", BOTH, ids=IDS)
def test_order_of_norms_and_activations(architecture: Architecture) -> None:
    model = build_model(architecture)
    unit = ["Conv2d", "BatchNorm2d", "SiLU"]
    bare = unit[:2]
    for y, module in zip(architecture.layers, model.features, strict=True):
        found = names(module)
        if y.block is Block.CNA:
            assert found == unit
        elif y.block is Block.FMBC:
            assert found == unit + bare
        else:
            squeeze = [
                n for m in module.modules() if isinstance(m, SqueezeExcitation) for n in names(m)
            ]
            assert sorted(squeeze) == ["Conv2d", "Conv2d", "SiLU", "Sigmoid"]
            assert found == unit + unit + squeeze + bare
    assert names(model.latent) == unit


@pytest.mark.parametrize("architecture", BOTH, ids=IDS)
def test_only_squeeze_excitation_and_the_classifier_have_biases(architecture: Architecture) -> None:
    model = build_model(architecture)
    squeezed = {
        id(conv)
        for module in model.modules()
        if isinstance(module, SqueezeExcitation)
        for conv in convolutions(module)
    }
    assert len(squeezed) == 2 * sum(y.block is Block.MBC for y in architecture.layers) > 0
    for conv in convolutions(model):
        assert (conv.bias is not None) == (id(conv) in squeezed)


@pytest.mark.parametrize("architecture", BOTH, ids=IDS)
def test_stochastic_depth_on_residual_layers_only(architecture: Architecture) -> None:
    model = build_model(architecture)
    depth, residuals = len(architecture.layers), 0
    for i, (y, module) in enumerate(zip(architecture.layers, model.features, strict=True)):
        drops = [m for m in module.modules() if isinstance(m, StochasticDepth)]
        residual = i > 0 and y.stride == 1 and y.in_channels == y.out_channels
        assert len(drops) == residual
        residuals += residual
        if residual:
            assert drops[0].p == pytest.approx(0.2 * i / (depth - 1))
            assert drops[0].mode == "row"
    assert residuals > 0
    assert depth - residuals > 1


@pytest.mark.parametrize("power", [0.0, 1.0, 2.0])
def test_a_recipes_rates_rise_along_the_residual_branches(power: float) -> None:
    model = build_model(BOTH[0])
    set_stochastic_depth(model, 0.4, power)
    rates = [m.p for m in model.modules() if isinstance(m, StochasticDepth)]
    assert len(rates) > 2
    assert rates[-1] == 0.4
    along = np.arange(1, len(rates) + 1) / len(rates)
    np.testing.assert_allclose(rates, 0.4 * along**power)


def test_residual_branch_is_added_and_dropped() -> None:
    layer = next(y for y in BOTH[0].layers if y.has_residual)
    x = torch.randn(6, layer.in_channels, 8, 8)
    kept = ResidualBlock(replace(layer, stochastic_depth=0.0)).eval()
    assert torch.allclose(kept(x), x + kept.block(x))
    dropped = ResidualBlock(replace(layer, stochastic_depth=1.0)).train()
    assert torch.equal(dropped(x), x)
    bare = ResidualBlock(replace(layer, stride=2)).eval()
    assert torch.equal(bare(x), bare.block(x))


@pytest.mark.parametrize("architecture", BOTH, ids=IDS)
def test_resolutions_on_the_way(architecture: Architecture) -> None:
    model = build_model(architecture).eval()
    seen: list[torch.Size] = []
    for module in model.features:
        module.register_forward_hook(lambda _m, _x, y: seen.append(y.shape))
    with torch.no_grad():
        logits = model(torch.rand(2, 3, 32, 32))
    assert logits.shape == (2, 10)
    expected = [
        (2, y.out_channels, y.out_resolution, y.out_resolution) for y in architecture.layers
    ]
    assert seen == expected


@pytest.mark.parametrize("resolution", [16, 33, 63, 100])
@pytest.mark.parametrize("family", IDS)
def test_forward_at_odd_resolutions(family: str, resolution: int) -> None:
    model = build_model(small(family, resolution, k=2.0)).train()
    logits = model(torch.rand(3, 3, resolution, resolution))
    assert logits.shape == (3, 10)
    assert torch.isfinite(logits).all()


def test_number_of_classes() -> None:
    images = torch.rand(2, 3, 32, 32)
    assert build_model(BOTH[0], num_classes=7)(images).shape == (2, 7)
    assert build_model(BOTH[0])(images).shape == (2, 10)


def built(seed: int) -> tuple[BetaNet, torch.Tensor]:
    torch.manual_seed(seed)
    model = build_model(BOTH[1]).train()
    images = torch.rand(4, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    return model, model(images)  # the dropped branches follow the seed too


def test_a_seed_decides_weights_and_output() -> None:
    (first, one), (second, two), (_, other) = built(1), built(1), built(2)
    for a, b in zip(first.parameters(), second.parameters(), strict=True):
        assert torch.equal(a, b)
    assert torch.equal(one, two)
    assert not torch.equal(one, other)


@pytest.mark.parametrize("architecture", BOTH, ids=IDS)
def test_gradient_reaches_every_weight(architecture: Architecture) -> None:
    torch.manual_seed(0)
    model = build_model(architecture).train()
    labels = torch.arange(16) % 10
    nn.functional.cross_entropy(model(torch.rand(16, 3, 32, 32)), labels).backward()
    for name, p in model.named_parameters():
        assert p.grad is not None, name
        assert torch.isfinite(p.grad).all(), name
        assert p.grad.abs().sum() > 0, name


def test_first_weights() -> None:
    torch.manual_seed(0)
    model = build_model(small("betanet2", 64, k=2.0))
    for conv in convolutions(model):
        # torchvision's EfficientNet counts all outputs of a depthwise convolution too.
        fan_out = conv.out_channels * conv.kernel_size[0] ** 2
        if conv.weight.numel() > 3000:
            assert conv.weight.std().item() == pytest.approx(np.sqrt(2 / fan_out), rel=0.1)
        if conv.bias is not None:
            assert not conv.bias.any()
    for norm in model.modules():
        if isinstance(norm, nn.BatchNorm2d):
            assert (norm.weight == 1).all()
            assert not norm.bias.any()
    bound = 10**-0.5
    assert model.classifier.weight.abs().max() <= bound
    assert model.classifier.weight.abs().max() > 0.9 * bound
    assert not model.classifier.bias.any()
