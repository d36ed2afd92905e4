"""What a recipe may ask for: optimisers, averaged weights, mixing, presets."""

import math
import os
import time
from pathlib import Path
from typing import get_args

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from command import free_endpoint
from torch import nn
from trainings import TaskMaker

from betanas.devices.ranks import Ranks
from betanas.images.placement import TrainingImages
from betanas.study.recipe import FAST_RECIPE, READ_BY, Recipe
from betanas.training.average import WeightAverage
from betanas.training.recipe import build_optimizer, parallel
from betanas.training.schedule import LearningRate
from betanas.training.trainer import Training
from betanas.trial import TrialTask


def test_preset_fills_what_is_not_given() -> None:
    recipe = Recipe.model_validate({"preset": "fast", "schedule": "cosine"})
    assert recipe.schedule == "cosine"
    assert recipe.learning_rate == FAST_RECIPE["learning_rate"]
    short = Recipe.model_validate({"preset": "short", "crop_scale": (0.5, 1.0)})
    assert (short.learning_rate, short.crop_scale, short.evaluations) == (8e-3, (0.5, 1.0), 2)
    assert Recipe().learning_rate == 1e-3
    assert Recipe().schedule == "plateau"


def trained(**given: str | float) -> torch.Tensor:
    """Weights after a few steps, whose validations do not rise."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 4, 3, bias=False), nn.BatchNorm2d(4))
    recipe = Recipe.model_validate({"patience_epochs": 0, "decay_epochs": 1.0, **given})
    optimizer = build_optimizer(recipe, model)
    rate = LearningRate(recipe, optimizer)
    for step in range(4):
        rate.before_step(step / 4, step)
        loss = model(torch.randn(2, 3, 5, 5)).square().mul(torch.randn(2, 4, 3, 3)).sum()
        model.zero_grad()
        loss.backward()
        optimizer.step()
        rate.after_evaluation(0.5, step + 1.0)
    return torch.cat([p.detach().flatten() for p in model.parameters()])


@pytest.mark.parametrize("key", READ_BY)
def test_who_reads_a_value(key: str) -> None:
    """The table by which studies are checked, against what trainings do."""
    chooser, readers = READ_BY[key]
    for name in get_args(Recipe.model_fields[chooser].annotation):
        differ = not torch.equal(
            trained(**{chooser: name, key: 0.5}), trained(**{chooser: name, key: 0.25})
        )
        assert differ == (name in readers), name


@pytest.mark.parametrize("name", ["adam", "adamw", "sgd", "rmsprop"])
def test_weight_decay_spares_norms_and_biases(name: str) -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))
    recipe = Recipe.model_validate({"optimizer": name, "weight_decay": 0.1})
    decayed, spared = build_optimizer(recipe, model).param_groups
    assert decayed["weight_decay"] == 0.1
    assert [p.shape for p in decayed["params"]] == [model[0].weight.shape]
    assert spared["weight_decay"] == 0.0
    assert len(spared["params"]) == 3


def test_rmsprop_decays_and_damps_as_the_recipe_says() -> None:
    model = nn.Linear(1, 1, bias=False)
    nn.init.ones_(model.weight)
    recipe = Recipe.model_validate(
        {
            "optimizer": "rmsprop",
            "learning_rate": 0.04,
            "rmsprop_decay": 0.9,
            "momentum": 0.5,
            "optimizer_epsilon": 1.0,
        }
    )
    optimizer, weight, square, speed = build_optimizer(recipe, model), 1.0, 0.0, 0.0
    for gradient in (3.0, -2.0, 5.0):
        model.weight.grad = torch.full_like(model.weight, gradient)
        optimizer.step()
        square = 0.9 * square + 0.1 * gradient**2
        speed = 0.5 * speed + gradient / (math.sqrt(square) + 1.0)
        weight -= 0.04 * speed
    assert model.weight.item() == pytest.approx(weight)


@pytest.mark.parametrize("name", ["adam", "adamw", "rmsprop", "muon"])
def test_every_adaptive_optimizer_takes_the_epsilon(name: str) -> None:
    model = nn.Sequential(nn.Conv2d(1, 2, 3, bias=False), nn.Flatten(), nn.Linear(2, 2))
    recipe = Recipe.model_validate({"optimizer": name, "optimizer_epsilon": 0.25})
    groups = build_optimizer(recipe, model).param_groups
    assert {g["eps"] for g in groups if "eps" in g} == {0.25}


def test_weight_average_is_applied_for_a_while() -> None:
    model = nn.Linear(2, 2)
    first = model.weight.detach().clone()
    average = WeightAverage(model, 0.5)
    with torch.no_grad():
        model.weight.fill_(1.0)
    average.after_step(1)  # the decay of step 1 is 2 / 11
    expected = first * 2 / 11 + 9 / 11
    with average.applied():
        torch.testing.assert_close(model.weight.detach(), expected)
    assert torch.equal(model.weight.detach(), torch.ones(2, 2))


class Steep(nn.Module):
    """Classifies digits with gradients beyond the range of fp16, from a loss of log 10."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(10, 3))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.mean(dim=(2, 3)) * 1e7 @ self.weight.T


def train_steeply(rank: int, task: TrialTask, endpoint: str) -> None:
    """One of two ranks; it fails if the training does."""
    host, port = endpoint.split(":")
    os.environ |= {"MASTER_ADDR": host, "MASTER_PORT": port, "WORLD_SIZE": "2"}
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank)}
    torch.set_num_threads(1)
    images = TrainingImages.load(task.dataset, 16, Path(task.cache))
    ranks = Ranks.join("cpu")
    result = Training(task, images, ranks, time.time(), Steep()).run()
    assert result.steps == 4
    ranks.leave()


@pytest.mark.slow
def test_compressed_gradients_do_not_make_a_training_diverge(make_task: TaskMaker) -> None:
    recipe = {"gradient_compression": "fp16", "batch_size": 32}
    task = make_task(budget={"steps": 4}, recipe=recipe, ranks=2)
    Path(task.folder).mkdir(parents=True)
    mp.spawn(train_steeply, (task, free_endpoint()), nprocs=2)


@pytest.mark.parametrize("most", [3e4, 1e30])
def test_fp16_keeps_what_is_no_overflow(most: float) -> None:
    """Small numbers are those of torch's hook; what was infinite before stays so."""
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    try:
        model, ranks = nn.Linear(4, 1, bias=False), Ranks(0, 2, torch.device("cpu"))
        wrapped = parallel(Recipe(gradient_compression="fp16"), model, ranks)
        wrapped(torch.tensor([[0.5, -most, math.inf, 1e-3]])).sum().backward()
    finally:
        dist.destroy_process_group()
    expected = torch.tensor([[0.5, -min(most, 2.0**15), math.inf, 1e-3]])
    assert model.weight.grad is not None
    torch.testing.assert_close(model.weight.grad, expected, rtol=1e-3, atol=0)
