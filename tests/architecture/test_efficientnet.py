"""EfficientNet and compound scaling: the published networks, and any other made larger."""

from dataclasses import fields

import numpy as np
import pytest
import torch
from drawn_kernels import FAMILY_NAMES, random_kernels
from torchvision import models

from betanas.architecture.complexity import count
from betanas.architecture.compound import Multipliers, compound_table
from betanas.architecture.decoding import TrivialKernelError, decode
from betanas.architecture.efficientnet import (
    B0,
    EFFICIENTNET,
    FOUND,
    PUBLISHED,
    Coefficients,
)
from betanas.architecture.families import FAMILIES
from betanas.architecture.layers import Architecture, Block
from betanas.architecture.limits import Feasibility, Limits
from betanas.models.heads import set_dropout
from betanas.models.network import build_model

# As torchvision documents them, for 1,000 classes.
WEIGHTS = dict(
    zip(
        PUBLISHED,
        (
            5_288_548, 7_794_184, 9_109_994, 12_233_232, 19_341_616, 30_389_784, 43_040_704,
            66_347_960,
        ),
        strict=True,
    )
)  # fmt: skip


def member(name: str, num_classes: int = 1000) -> Architecture:
    return decode(EFFICIENTNET, EFFICIENTNET.members[name], 224, num_classes)


def scaled(base: Architecture, depth: float, width: float, side: int) -> Architecture:
    by = Multipliers(np.array([depth]), np.array([width]), np.array([side]))
    return compound_table(base, by).architecture(0, base.num_classes)


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_networks_have_their_published_weights_and_side(name) -> None:
    network = member(name)
    assert count(network, 1).num_params == WEIGHTS[name]
    assert network.resolution == PUBLISHED[name].resolution
    with torch.device("meta"):
        assert sum(p.numel() for p in build_model(network).parameters()) == WEIGHTS[name]


@pytest.mark.parametrize("name", ["efficientnet-b0", "efficientnet-b3", "efficientnet-b7"])
def test_published_networks_are_torchvisions_layer_by_layer(name) -> None:
    with torch.device("meta"):
        theirs = models.get_model(name.replace("-", "_"), weights=None)
        ours = build_model(member(name))
    shapes = [[v.shape for v in m.state_dict().values()] for m in (ours, theirs)]
    assert shapes[0] == shapes[1]


def test_b0_answers_as_torchvisions_with_the_same_weights() -> None:
    torch.manual_seed(0)
    theirs = models.efficientnet_b0(weights=None, num_classes=7).eval()
    ours = build_model(B0, 7).eval()
    values = theirs.state_dict().values()
    ours.load_state_dict(dict(zip(ours.state_dict(), values, strict=True)))
    images = torch.rand(2, 3, 64, 64)
    with torch.inference_mode():
        assert torch.allclose(ours(images), theirs(images), atol=1e-6)


def test_dropout_is_the_recipes_and_no_coefficient() -> None:
    assert [f.name for f in fields(Coefficients)] == ["width", "depth", "resolution"]
    model, images = build_model(B0, 7), torch.rand(1, 3, 64, 64)
    model.train()
    model.latent.register_forward_hook(lambda _module, _inputs, y: torch.ones_like(y))
    own = model(images)
    assert torch.equal(own, model(images)), "it has none by itself"
    set_dropout(model, 0.5)
    assert not torch.equal(own, model(images))


def test_the_formula_misses_the_published_networks() -> None:
    b7 = decode(EFFICIENTNET, FOUND | {"phi": 6.0}, 224, 1000)
    assert (b7.resolution, PUBLISHED["efficientnet-b7"].resolution) == (518, 600)


@pytest.mark.parametrize("family", [*FAMILY_NAMES, "betamix"])
def test_a_network_scaled_by_nothing_is_itself(family) -> None:
    chosen = FAMILIES[family]
    if family == "betamix":
        networks = [decode(chosen, kernel, 32, 10) for kernel in chosen.members.values()]
    else:
        kernels = random_kernels(chosen, 20, seed=0, k=3.0)
        networks = [decode(chosen, chosen.kernel(x), 70, 10) for x in kernels]
    for network in networks:
        assert scaled(network, 1.0, 1.0, network.resolution) == network


@pytest.mark.parametrize("family", FAMILY_NAMES)
def test_a_scaled_betanet_is_deeper_wider_larger_and_can_be_built(family) -> None:
    network = decode(FAMILIES[family], FAMILIES[family].published, 224, 10)
    larger = scaled(network, 1.2, 1.1, 258)
    assert larger.resolution == 258
    assert len(network.layers) < len(larger.layers) <= 1.5 * len(network.layers)
    strides = [sum(y.stride == 2 for y in a.layers) for a in (network, larger)]
    assert strides[0] == strides[1]
    assert larger.layers[-1].out_channels == pytest.approx(
        1.1 * network.layers[-1].out_channels, abs=8
    )
    with torch.device("meta"):
        weights = sum(p.numel() for p in build_model(larger).parameters())
        answer = build_model(larger).eval()(torch.empty(1, 3, 258, 258))
    assert count(larger, 1).num_params == weights
    assert answer.shape == (1, 10)


def test_networks_scaled_together_are_those_scaled_alone() -> None:
    depths, widths, sides = np.array([0.6, 1.0, 1.9]), np.array([1.3, 0.5, 1.0]), (96, 224, 333)
    table = compound_table(B0, Multipliers(depths, widths, np.array(sides)))
    for i, side in enumerate(sides):
        alone = scaled(B0, float(depths[i]), float(widths[i]), side)
        assert table.architecture(i, B0.num_classes) == alone


def test_only_the_first_block_has_no_expansion_and_squeezes_are_of_the_input() -> None:
    blocks = [y for y in member("efficientnet-b4").layers if y.block is Block.MBC]
    assert [y.expanded_channels for y in blocks[:2]] == [0, 0]
    assert all(y.expanded_channels == 6 * y.in_channels for y in blocks[2:])
    assert all(y.squeeze_channels == y.in_channels // 4 for y in blocks)


def test_the_band_rejects_exactly_and_a_side_out_of_range_is_nothing_to_build() -> None:
    rules = Feasibility(EFFICIENTNET, 10, 8, 2, Limits(32))
    kernels = np.array(
        [[1.2, 1.1, 1.15, 1.0], [2.0, 1.0, 1.0, 1.0], [2.2, 1.0, 1.0, 1.0], [1.05, 1.0, 1.4, 20.0]]
    )
    reasons = [rules.check(kernels).reason(i) for i in range(4)]
    assert reasons == [None, None, "family_rule", "no_contraction"]
    with pytest.raises(TrivialKernelError, match=r"must be in \[16, 4096\], but got 26789"):
        EFFICIENTNET.decode({"alpha": 1.05, "beta": 1.0, "gamma": 1.4, "phi": 16.0}, 123, 10)


@pytest.mark.filterwarnings("error")
def test_what_is_too_large_is_rejected_without_being_made() -> None:
    kernels = np.array(
        [
            [8, 1, 1, 16],
            [1, 8, 1, 16],
            [8, 8, 8, 16],
            [0.1, 0.1, 1, -8],
            [2, 2, 1, 6.01],
            [2, 2, 1, 6],
        ]
    )
    survey = EFFICIENTNET.survey(kernels, 32, 10, 100)
    assert survey.trivial.tolist() == [True] * 5 + [False]
    assert survey.layers is not None
    largest = decode(EFFICIENTNET, EFFICIENTNET.kernel(kernels[5]), 32, 10)
    assert survey.layers.depth[5] == len(largest.layers) == 1 + 64 * 16
    assert survey.complexities.row(5) == count(largest, 100)
    assert (survey.complexities.num_params > 0).all()
    rules = Feasibility(EFFICIENTNET, 10, 8, 2, Limits(32))
    assert rules.check(kernels[:5]).counts() == {"no_contraction": 5}
    with pytest.raises(TrivialKernelError, match=r"must be <= 64, but got 2\.815e\+14 and 1;"):
        EFFICIENTNET.decode(EFFICIENTNET.kernel(kernels[0]), 32, 10)


def test_what_is_scaled_to_next_to_nothing_has_a_layer_of_each_stage() -> None:
    assert len(scaled(B0, 0.0, 0.0, 32).layers) == 8
