"""Scores of untrained networks, by cases that a person can compute."""

import math
from copy import deepcopy

import numpy as np
import pytest
import torch
from torch import nn
from torchvision.ops.stochastic_depth import StochasticDepth

from betanas.architecture.cells import OPERATIONS, Cell
from betanas.architecture.decoding import decode
from betanas.architecture.families import FAMILIES
from betanas.architecture.nasbench201 import NASBENCH201, kernel_of_cell
from betanas.models.network import build_model
from betanas.models.scores import naswot, synflow


def signs(*patterns: str) -> torch.Tensor:
    """A batch of one-pixel images with three channels, each above 0 or not."""
    values = [[1.0 if mark == "+" else -1.0 for mark in pattern] for pattern in patterns]
    return torch.tensor(values)[:, :, None, None]


@pytest.mark.parametrize("nonlinearity", [nn.ReLU(), nn.ReLU(inplace=True), nn.SiLU(), nn.GELU()])
def test_naswot_is_the_determinant_of_agreements(nonlinearity: nn.Module) -> None:
    # Agreements 3 with themselves, 2 and 1 with each other.
    kernel = [[3, 2, 1], [2, 3, 2], [1, 2, 3]]
    expected = math.log(np.linalg.det(kernel))
    assert naswot(nonlinearity, [signs("+++", "++-", "+--")]) == pytest.approx(expected)


def test_naswot_sums_layers_and_averages_batches() -> None:
    # The second nonlinearity sees -x: as many agreements again.
    negate = nn.Conv2d(3, 3, 1, bias=False)
    negate.weight.data = -torch.eye(3)[:, :, None, None]
    model = nn.Sequential(nn.LeakyReLU(), negate, nn.LeakyReLU())
    near, far = signs("+++", "++-"), signs("+++", "---")
    # Determinants of [[6, 4], [4, 6]] and [[6, 0], [0, 6]].
    assert naswot(model, [near]) == pytest.approx(math.log(20))
    assert naswot(model, [near, far]) == pytest.approx((math.log(20) + math.log(36)) / 2)
    assert naswot(model, [signs("+-+", "+-+")]) == -math.inf


@pytest.mark.parametrize("side", [1, 8, 40])  # few and many inputs
def test_naswot_of_many_inputs_counts_all_of_them_twice_where_two_read_them(side: int) -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.one, self.other, self.shifted = nn.ReLU(), nn.SiLU(), nn.ReLU()

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            both = self.one(x) + self.other(x)
            x += 0.5  # another tensor now, in the same place
            return both + self.shifted(x)

    images = torch.randn(7, 3, side, side, generator=torch.Generator().manual_seed(1))
    patterns = [(images + shift > 0).flatten(1).numpy() for shift in (0.0, 0.0, 0.5)]
    agree = sum((p[:, None] == p[None, :]).sum(axis=-1) for p in patterns)
    expected = np.linalg.slogdet(np.asarray(agree, dtype=np.float64)).logabsdet
    assert naswot(Twice(), [images]) == pytest.approx(expected)


def test_naswot_normalises_with_the_batch_and_drops_nothing() -> None:
    norm = nn.BatchNorm2d(3)
    model = nn.Sequential(norm, StochasticDepth(0.9, "row"), nn.ReLU()).train()
    images = signs("+++", "++-", "+--") + 100  # all above 0 without the norm
    # Channels: the first is the mean of all images, which is not above it.
    kernel = [[3, 2, 1], [2, 3, 2], [1, 2, 3]]
    assert naswot(model, [images]) == pytest.approx(math.log(np.linalg.det(kernel)), abs=1e-6)
    assert norm.running_mean is not None
    assert torch.equal(norm.running_mean, torch.zeros(3))


def all_computed(model: nn.Module, images: torch.Tensor) -> float:
    """NASWOT as it is written down: every operation, every agreement of every nonlinearity."""
    agree = np.zeros((len(images), len(images)))

    def look(_: nn.Module, inputs: tuple[torch.Tensor]) -> None:
        pattern = (inputs[0] > 0).flatten(1).numpy()
        agree.__iadd__((pattern[:, None] == pattern[None, :]).sum(axis=-1))

    model = deepcopy(model).train()
    for module in model.modules():
        if isinstance(module, nn.ReLU):
            module.register_forward_pre_hook(look)
    with torch.no_grad():
        model(images)
    return float(np.linalg.slogdet(agree).logabsdet)


NONE, SKIP, ONE, THREE, POOL = OPERATIONS


@pytest.mark.parametrize(
    "cell",
    [
        Cell((THREE, POOL, ONE, POOL, SKIP, NONE)),  # nothing reads node 2
        Cell((NONE, POOL, ONE, SKIP, THREE, ONE)),  # node 1 is 0
        Cell((NONE, NONE, THREE, SKIP, NONE, POOL)),  # and node 2
        Cell((POOL, ONE, THREE, SKIP, NONE, NONE)),  # only ReLUs read node 1
        Cell((THREE, NONE, ONE, NONE, NONE, NONE)),  # nothing reaches the output
        Cell((ONE, THREE, POOL, POOL, SKIP, ONE)),  # all is needed
    ],
    ids=str,
)
@pytest.mark.parametrize("bias", [0.0, 0.25])
def test_naswot_of_a_cell_is_that_of_all_its_operations(cell: Cell, bias: float) -> None:
    torch.manual_seed(0)
    model = build_model(NASBENCH201.decode(kernel_of_cell(cell), 18, 10))  # sides 18, 9 and 5
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.constant_(module.bias, bias)
    images = torch.randn(6, 3, 18, 18)
    # Pooling rounds in another way.
    assert naswot(model, [images]) == pytest.approx(all_computed(model, images), rel=1e-5)


@pytest.mark.parametrize("side", [1, 2, 7])
def test_naswot_pools_at_borders_as_the_model_does(side: int) -> None:
    pool = nn.AvgPool2d(3, 1, padding=1, count_include_pad=False)
    images = torch.randn(6, 40, side, side, generator=torch.Generator().manual_seed(1))
    # The mean over the batch decides the signs, so that a wrong weight of a border shows.
    model = nn.Sequential(pool, nn.BatchNorm2d(40), nn.ReLU())
    assert naswot(model, [images]) == pytest.approx(all_computed(model, images), rel=1e-5)


def test_synflow_of_a_chain_is_its_output_times_its_depth() -> None:
    first, second = nn.Conv2d(3, 1, 2, bias=False), nn.Linear(1, 2, bias=False)
    first.weight.data = torch.full((1, 3, 2, 2), -0.5)
    second.weight.data = torch.tensor([[1.0], [-3.0]])
    model = nn.Sequential(first, nn.BatchNorm2d(1), nn.ReLU(), nn.Flatten(), second)
    # Ones give 12 * 0.5 = 6, then 6 * (1 + 3) = 24, and each of two layers passes on all of it.
    assert synflow(model, 2) == pytest.approx(math.log(2 * 24))
    assert torch.equal(second.weight.data, torch.tensor([[1.0], [-3.0]]))
    assert second.weight.dtype == torch.float32


def test_synflow_of_what_is_cut_off() -> None:
    model = nn.Sequential(nn.Conv2d(3, 1, 1, bias=False), nn.Flatten(), nn.Linear(1, 2))
    model[0].weight.data.zero_()
    model[2].bias.data.zero_()
    assert synflow(model, 1) == -math.inf


@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_every_family_has_scores(family: str) -> None:
    chosen = FAMILIES[family]
    torch.manual_seed(0)
    model = build_model(decode(chosen, chosen.published, 32, 10))
    before = {name: value.clone() for name, value in model.state_dict().items()}
    images = torch.randn(6, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    scores = naswot(model, [images]), synflow(model, 32)
    assert all(math.isfinite(score) for score in scores)
    assert scores == (naswot(model, [images]), synflow(model, 32))
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
