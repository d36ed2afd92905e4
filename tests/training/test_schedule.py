import random

import pytest
import torch

from betanas.study.recipe import Recipe
from betanas.training.schedule import LearningRate, Plateau


def rates(progress: list[float], epochs: float = 0.0, **recipe: object) -> list[float]:
    """Learning rates at shares of the budget, for a peak of 1."""
    optimizer = torch.optim.SGD([torch.zeros(1)], 1.0)
    rate = LearningRate(Recipe.model_validate({"learning_rate": 1.0, **recipe}), optimizer)
    seen = []
    for share in progress:
        rate.before_step(share, epochs)
        seen.append(optimizer.param_groups[0]["lr"])
    return seen


def test_plateau_is_that_of_torch() -> None:
    rng = random.Random(0)
    optimizer = torch.optim.SGD([torch.zeros(1)], 1.0)
    theirs = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, "max", 0.5, 2)
    ours = Plateau(0.5, 2)
    for epoch in range(60):
        accuracy = min(0.9, epoch / 30) + 0.01 * rng.random()
        theirs.step(accuracy)
        ours.see(accuracy, float(epoch))
        assert ours.factor == optimizer.param_groups[0]["lr"]
    assert ours.factor < 1


@pytest.mark.parametrize("an_epoch", [1, 3, 8, 50])
def test_plateau_counts_epochs_not_evaluations(an_epoch: int) -> None:
    recipe = Recipe(learning_rate=1.0, schedule="plateau", patience_epochs=3, plateau_factor=0.5)
    optimizer = torch.optim.SGD([torch.zeros(1)], 1.0)
    rate = LearningRate(recipe, optimizer)
    falls = []
    for evaluation in range(1, 10 * an_epoch + 1):
        epochs = evaluation / an_epoch
        before = rate.plateau.factor
        rate.after_evaluation(0.5 if epochs >= 1 else 0.4, epochs)
        if rate.plateau.factor < before:
            falls.append(epochs)
    assert falls == [5, 9]  # 4 epochs, more than 3, after the rise at the end of the first


def test_one_cycle_is_that_of_torch() -> None:
    steps = 50
    optimizer = torch.optim.SGD([torch.zeros(1)], 1.0)
    theirs = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, 1.0, steps, final_div_factor=1e9, cycle_momentum=False, pct_start=0.3
    )
    expected = []
    for _ in range(steps):
        expected.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        theirs.step()
    # Torch reaches the peak and the end a step earlier: it counts steps, not what is spent.
    shares = [(i / 14 * 0.3) if i <= 14 else 0.3 + (i - 14) / 35 * 0.7 for i in range(steps)]
    assert rates(shares, schedule="one-cycle") == pytest.approx(expected, abs=1e-6)


def test_cosine_falls_from_the_peak_to_nothing() -> None:
    assert rates([0.0, 0.5, 1.0], schedule="cosine") == pytest.approx([1.0, 0.5, 0.0])


def test_exponential_falls_once_in_some_epochs() -> None:
    recipe = {"schedule": "exponential", "decay_factor": 0.5, "decay_epochs": 2.0}
    for epochs, expected in ((0.0, 1.0), (1.99, 1.0), (2.0, 0.5), (7.9, 0.125)):
        assert rates([0.9], epochs, **recipe) == [expected]


def test_any_schedule_warms_up() -> None:
    for schedule in ("constant", "plateau", "cosine", "exponential"):
        start, middle, end = rates([0.0, 0.05, 0.1], schedule=schedule, warm_up=0.1)
        assert start == pytest.approx(1 / 25)
        assert start < middle < end == pytest.approx(1.0)
    assert rates([0.0], schedule="constant") == [1.0]
