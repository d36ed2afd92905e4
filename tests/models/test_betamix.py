"""The family betamix: every kind of block is counted as it is built."""

from itertools import product

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from betanas.architecture.betamix import BETAMIX, KINDS
from betanas.architecture.complexity import count
from betanas.architecture.family import TrivialKernelError
from betanas.architecture.layers import Architecture
from betanas.models.network import build_model, count_macs

BATCH = 4
BASE = {
    **BETAMIX.members["plain"],
    "K": 2.5,
    "B": 0.5,
    "E0": 2.0,
    "E1": 3.0,
    "head": "latent",
    "G0": 1.5,
}
PAIRS = tuple(zip(KINDS, KINDS[1:] + KINDS[:1], strict=True))
KERNELS = [
    {**BASE, "early": early, "late": late, "activation": activation, "contraction": contraction}
    for (early, late), activation, contraction in product(
        PAIRS, ("relu", "silu", "gelu"), ("stride", "pool")
    )
]
KERNELS += [
    {**BASE, "stem": 1, "early": "fused", "late": "fused", "E0": 1.0, "E1": 1.0},
    {**BASE, "early": "fused", "late": "mbconv", "se": "all", "kernel": "5"},
    {**BASE, "early": "fused", "late": "mbconv", "se": "late", "head": "pooled"},
    {**BASE, "late": "residual", "group": "16", "G0": 4.0, "W0": 0.5, "head": "pooled"},
]


def saved_bytes(model: nn.Module, images: Tensor) -> int:
    """What autograd keeps of a training step beside weights and buffers."""
    own = {t.untyped_storage().data_ptr() for t in (*model.parameters(), *model.buffers())}
    kept: dict[int, Tensor] = {}

    def keep(tensor: Tensor) -> Tensor:
        if tensor.untyped_storage().data_ptr() not in own:
            kept[tensor.untyped_storage().data_ptr()] = tensor
        return tensor

    labels = torch.zeros(len(images), dtype=torch.int64)
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda t: t):
        nn.functional.cross_entropy(model(images), labels)
    return sum(t.untyped_storage().nbytes() for t in kept.values())


def decoded(kernel: dict, resolution: int = 32) -> Architecture:
    return BETAMIX.decode(kernel, resolution, 10)


@pytest.mark.parametrize("kernel", KERNELS, ids=range(len(KERNELS)))
def test_counts_are_those_of_the_module(kernel: dict) -> None:
    architecture = decoded(kernel)
    model, costs = build_model(architecture).train(), count(architecture, BATCH)
    assert sum(p.numel() for p in model.parameters()) == costs.num_params
    saved = saved_bytes(model, torch.randn(BATCH, 3, 32, 32))
    assert saved == pytest.approx(costs.activation_bytes, rel=0.02)
    assert count_macs(model, 32) == costs.macs
    assert Architecture.from_json(architecture.to_json()) == architecture


def test_members_are_the_networks_that_they_are_named_after() -> None:
    resnet = decoded(BETAMIX.members["resnet20"])
    assert [y.out_channels for y in resnet.layers] == [16] * 4 + [32] * 3 + [64] * 3
    assert [i for i, y in enumerate(resnet.layers) if y.stride == 2] == [4, 7]
    assert count(resnet, 1).num_params == 272_474  # 0.27 million in the paper
    resnet18 = decoded(BETAMIX.members["resnet18-3x3"])
    assert count(resnet18, 1).num_params == 11_173_962  # as torchvision's with a 3x3 stem
    plain = decoded(BETAMIX.members["plain"])
    assert {str(y.block) for y in plain.layers} == {"CNA"}
    assert [y.stride for y in plain.layers] == [2, 1, 2, 1, 2, 1]
    assert [y.out_channels for y in plain.layers] == [16, 32, 32, 64, 64, 64]
    assert count(decoded(BETAMIX.members["plain-wide"]), 1).num_params == 427_178
    airbench = decoded(BETAMIX.members["airbench"])
    assert [y.out_channels for y in airbench.layers] == [24, 24, 24, 48, 48, 48, 48]
    assert [i for i, y in enumerate(airbench.layers) if y.pools] == [1, 3, 5]
    wide = decoded(BETAMIX.members["airbench-wide"])
    assert [y.out_channels for y in wide.layers] == [64, 88, 88, 232, 232, 256, 256]


def test_resolution_scales_a_kernel() -> None:
    small, large = (decoded(BASE, resolution) for resolution in (32, 64))
    assert large.layers[-1].out_channels == 2 * small.layers[-1].out_channels
    assert sum(y.stride == 2 for y in large.layers) == 1 + sum(y.stride == 2 for y in small.layers)


def test_kernel_without_a_contraction_is_trivial() -> None:
    with pytest.raises(TrivialKernelError):
        decoded({**BASE, "k": 8.0})


def test_many_kernels_are_surveyed_as_one_by_one() -> None:
    rng = np.random.default_rng(0)
    kernels = np.array(
        [
            [
                p.number(str(rng.choice(p.range)))
                if isinstance(p.range[0], str)
                else rng.uniform(*p.range)
                for p in BETAMIX.parameters
            ]
            for _ in range(50)
        ]
    )
    kernels[:, BETAMIX.names.index("stem")] = rng.integers(1, 3, 50)
    together = BETAMIX.survey(kernels, 32, 10, BATCH)
    for i, row in enumerate(kernels):
        assert together.complexities.row(i) == count(decoded(BETAMIX.kernel(row)), BATCH)
