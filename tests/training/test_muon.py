"""Muon on convolutions, by torch's own optimiser on views of their weights."""

from copy import deepcopy

import pytest
import torch
from torch import nn

from betanas.study.recipe import Recipe
from betanas.training.captured import uncaptured
from betanas.training.muon import Muon
from betanas.training.recipe import build_optimizer
from betanas.training.schedule import LearningRate

RECIPE = Recipe.model_validate(
    {"optimizer": "muon", "learning_rate": 0.01, "muon_learning_rate": 0.2, "schedule": "constant"}
)


def network(memory: torch.memory_format) -> nn.Sequential:
    torch.manual_seed(3)
    model = nn.Sequential(
        nn.Conv2d(3, 8, 3, bias=False), nn.BatchNorm2d(8), nn.Conv2d(8, 8, 3, groups=8),
        nn.Conv2d(8, 16, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 10),
    )  # fmt: skip
    return model.to(memory_format=memory)  # type: ignore[call-overload, no-any-return]


def learn(model: nn.Module, optimizer: Muon, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    for weight in model.parameters():
        weight.grad = None
    model(torch.randn(8, 3, 9, 9, generator=generator)).square().mean().backward()
    optimizer.step()


def test_a_step_of_a_convolution_is_nearly_orthogonal() -> None:
    model = network(torch.channels_last)
    optimizer = Muon(RECIPE, model)
    generator = torch.Generator().manual_seed(5)
    for weight in model.parameters():
        weight.grad = torch.randn(weight.shape, generator=generator)
    before = [w.detach().clone() for w in model.parameters()]
    optimizer.step()
    after = [w.detach() for w in model.parameters()]
    matrix = before[0].flatten(1)
    matrix *= 8**0.5 / matrix.norm()  # 8 x 27, with the norm of an orthogonal matrix
    turned = torch.linalg.svdvals(after[0].flatten(1) - matrix) / RECIPE.muon_learning_rate
    assert 0.5 < turned.min() <= turned.max() < 1.4
    for ours, was in zip(after[1:], before[1:], strict=True):  # a bias, norms, depthwise, linear
        assert (ours - was).abs().max() == pytest.approx(RECIPE.learning_rate, rel=1e-3)


def test_layouts_learn_alike() -> None:
    models = [network(torch.channels_last), network(torch.contiguous_format)]
    for model in models:
        learn(model, Muon(RECIPE, model), 0)
    for ours, theirs in zip(models[0].parameters(), models[1].parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=0.02)  # it computes in bf16


def test_it_goes_on_from_its_state() -> None:
    model, copy = network(torch.channels_last), network(torch.channels_last)
    first = Muon(RECIPE, model)
    learn(model, first, 0)
    copy.load_state_dict(model.state_dict())
    second = Muon(RECIPE, copy)
    second.load_state_dict(deepcopy(first.state_dict()))
    rate = LearningRate(RECIPE, second)
    rate.before_step(0.5, 1.0)
    assert [group["lr"] for group in second.param_groups] == pytest.approx([0.2, 0.01, 0.01])
    learn(model, first, 1)
    learn(copy, second, 1)
    for ours, theirs in zip(model.parameters(), copy.parameters(), strict=True):
        assert torch.equal(ours, theirs)


def test_weight_decay_is_for_what_no_norm_undoes() -> None:
    model = network(torch.channels_last)
    recipe = RECIPE.model_copy(update={"weight_decay": 0.1})
    turned, decayed, spared = Muon(recipe, model).param_groups
    assert (turned["weight_decay"], spared["weight_decay"]) == (0.0, 0.0)
    assert decayed["weight_decay"] == 0.1
    assert [p.shape[0] for p in decayed["params"]] == [8, 16, 10]  # depthwise, with bias, linear


def test_a_rate_may_be_a_tensor() -> None:
    models = [network(torch.channels_last), network(torch.channels_last)]
    optimizers = [Muon(RECIPE, model) for model in models]
    for group in optimizers[1].param_groups:
        group["lr"] = torch.tensor(group["lr"])
    for step, progress in enumerate((0.1, 0.5, 0.9)):
        for model, optimizer in zip(models, optimizers, strict=True):
            recipe = RECIPE.model_copy(update={"schedule": "one-cycle"})
            LearningRate(recipe, optimizer).before_step(progress, 1.0)
            learn(model, optimizer, step)
    assert all(isinstance(group["lr"], torch.Tensor) for group in optimizers[1].param_groups)
    for ours, theirs in zip(*(model.parameters() for model in models), strict=True):
        torch.testing.assert_close(ours, theirs)


def test_a_network_without_convolutions_learns_by_adam() -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(3 * 81, 10))
    learn(model, Muon(RECIPE, model), 0)


@pytest.mark.parametrize("name", ["muon", "adam"])
def test_what_was_saved_with_captured_rates_goes_on_with_plain_ones(name: str) -> None:
    recipe, model = RECIPE.model_copy(update={"optimizer": name}), network(torch.channels_last)
    first, second = (build_optimizer(recipe, model) for _ in range(2))
    for group in first.param_groups:
        group["lr"] = torch.tensor(0.25)
        if "capturable" in group:
            group["capturable"] = True
    second.load_state_dict(deepcopy(first.state_dict()))
    uncaptured(second)
    for group in second.param_groups:
        assert isinstance(group["lr"], float)
        assert not group.get("capturable")
