"""Whole trainings in real processes: budgets, seeds and ranks."""

import json
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from trainings import TaskMaker, learnt

from betanas.devices.ranks import Ranks
from betanas.images.placement import TrainingImages
from betanas.launcher.client import TrainerServer
from betanas.study.recipe import LatencyConfig
from betanas.training.trainer import Training
from betanas.trial import STOP_FILE, TrainingResult, TrialTask, left_result

STEPS_PER_EPOCH = 16  # of 64 images


@pytest.mark.parametrize(
    ("budget", "steps"),
    [({"steps": 7}, 7), ({"epochs": 2}, 2 * STEPS_PER_EPOCH), ({"images": 500}, 8)],
)
def test_budget_ends_with_the_step_that_spends_it(
    server: TrainerServer, make_task: TaskMaker, budget: dict[str, int], steps: int
) -> None:
    result = server.run(make_task(budget=budget))
    assert result.steps == steps
    assert result.images == steps * 64
    assert result.history[-1].steps == steps


def test_stochastic_depth_is_the_recipes_where_it_says_one(
    server: TrainerServer, make_task: TaskMaker
) -> None:
    budget = {"steps": 2}
    own, none, most = (
        server.run(make_task(name, budget=budget, recipe=recipe)).history[-1].train_loss
        for name, recipe in (
            ("own", {}),
            ("none", {"stochastic_depth": 0.0}),
            ("most", {"stochastic_depth": 0.9}),
        )
    )
    assert len({own, none, most}) == 3


def test_seconds_are_counted_by_the_training_clock(
    server: TrainerServer, make_task: TaskMaker
) -> None:
    news: list[dict[str, float]] = []
    result = server.run(make_task(budget={"seconds": 1.0}, recipe={"preset": "fast"}), news.append)
    # The last step began within the budget, so it is over, by less than that step.
    assert result.train_seconds >= 1.0
    assert result.images_per_second == pytest.approx(result.images / result.train_seconds)
    assert 0 < result.data_wait_seconds < result.train_seconds
    assert result.evaluation_seconds > 0
    assert result.startup_seconds > 0
    assert [e.steps for e in result.history] == sorted({e.steps for e in result.history})
    assert [n["accuracy"] for n in news if "accuracy" in n] == [e.accuracy for e in result.history]


@pytest.mark.parametrize("steps", [20, 50])
def test_trials_are_compared_after_equal_numbers_of_evaluations(
    server: TrainerServer, make_task: TaskMaker, steps: int
) -> None:
    """A fast network comes further in its time, but has no more tries."""
    result = server.run(make_task(budget={"steps": steps}))
    assert [e.steps for e in result.history] == [steps * i // 10 for i in range(1, 11)]


def test_evaluations_at_the_ends_of_epochs_are_had_for_the_asking(
    server: TrainerServer, make_task: TaskMaker
) -> None:
    recipe = {"evaluations": 2, "evaluate_every_epochs": 2}
    result = server.run(make_task(budget={"steps": 100}, recipe=recipe))
    assert [e.steps for e in result.history] == [32, 50, 64, 96, 100]


def test_two_runs_of_a_task_are_the_same(server: TrainerServer, make_task: TaskMaker) -> None:
    recipe = {"autoaugment": True, "mixup": 0.2, "cutmix": 1.0, "weight_average": 0.9}
    budget = {"steps": 30}
    first = server.run(make_task("first", budget=budget, recipe=recipe))
    again = server.run(make_task("again", budget=budget, recipe=recipe))
    other = server.run(make_task("other", budget=budget, recipe=recipe, seed=6))
    assert learnt(first) == learnt(again)
    assert learnt(first) != learnt(other)


def test_ranks_share_norms_in_bf16(server: TrainerServer, make_task: TaskMaker) -> None:
    shared = {"sync_batch_norm": True, "precision": "bf16", "evaluations": 1}
    one, two = (
        server.run(
            make_task(
                f"bf16-{n}",
                budget={"steps": 60},
                ranks=n,
                recipe={**shared, "batch_size": 64 // n},
            )
        )
        for n in (1, 2)
    )
    assert (two.ranks, two.precision) == (2, "bf16")
    assert two.history[-1].train_loss == pytest.approx(one.history[-1].train_loss, rel=0.2)


def test_ranks_do_not_change_what_is_learnt(server: TrainerServer, make_task: TaskMaker) -> None:
    """Batches, augmentation, mixing, dropped branches and norms are those of the whole step."""
    shared = {
        "optimizer": "sgd",
        "learning_rate": 0.05,
        "autoaugment": True,
        "mixup": 0.2,
        "label_smoothing": 0.1,
        "clip_gradient_norm": 5.0,
        "norm_batches": 4,
        "gradient_compression": "none",
        "sync_batch_norm": True,
        "evaluations": 2,
        "precision": "float32",
    }
    budget = {"epochs": 2}
    one, two = (
        server.run(
            make_task(
                f"{n}-ranks", budget=budget, ranks=n, recipe={**shared, "batch_size": 64 // n}
            )
        )
        for n in (1, 2)
    )
    assert two.ranks == 2
    assert len(one.history) == len(two.history) == 2
    for a, b in zip(one.history, two.history, strict=True):
        assert (a.steps, a.epoch) == (b.steps, b.epoch)
        assert b.train_loss == pytest.approx(a.train_loss, rel=1e-3)
        assert b.accuracy == pytest.approx(a.accuracy, abs=0.01)


@pytest.mark.parametrize("compression", ["fp16", "bf16"])
def test_ranks_train_with_compressed_gradients(
    server: TrainerServer, make_task: TaskMaker, compression: str
) -> None:
    recipe = {"gradient_compression": compression, "batch_size": 32}
    result = server.run(make_task(ranks=2, recipe=recipe))
    assert result.failure is None, result.message
    assert result.steps == 12


def test_validation_counts_every_image_once(server: TrainerServer, make_task: TaskMaker) -> None:
    """201 images do not divide by two ranks, nor by the batch."""
    dataset = make_task().dataset.model_copy(update={"validation": 201})
    result = server.run(make_task(ranks=2, dataset=dataset, recipe={"batch_size": 20}))
    correct = result.history[-1].accuracy * 201
    assert correct == pytest.approx(round(correct), abs=1e-9)


def test_training_stops_when_the_accuracy_does_not_rise(
    server: TrainerServer, make_task: TaskMaker
) -> None:
    recipe = {"learning_rate": 1e-12, "stop_patience_epochs": 2, "norm_batches": 1}
    recipe |= {"evaluations": 0, "evaluate_every_epochs": 1}
    result = server.run(make_task(budget={"epochs": 50}, recipe=recipe))
    best = max(result.history, key=lambda e: e.accuracy)
    assert result.epochs == best.epoch + 2


@pytest.mark.parametrize("ranks", [1, 2])
def test_a_training_that_is_told_to_stop_keeps_what_it_has(
    server: TrainerServer, make_task: TaskMaker, ranks: int
) -> None:
    task = make_task(
        budget={"steps": 4000},
        ranks=ranks,
        recipe={"evaluations": 100},
    )

    def stop(news: dict[str, Any]) -> None:
        if "accuracy" in news:
            (Path(task.folder) / STOP_FILE).touch()

    result = server.run(task, stop)
    assert result.failure is None
    assert result.stopped
    assert result.value == max(e.accuracy for e in result.history)
    assert result.history[0].steps == 40  # the first hundredth of the budget
    assert result.steps < 4000
    # The same task again is not stopped by the file of before.
    again = server.run(make_task(budget={"steps": 8}, recipe={"evaluations": 4}))
    assert not again.stopped
    assert [e.steps for e in again.history] == [2, 4, 6, 8]


def test_a_training_that_is_told_to_stop_before_its_first_evaluation_has_no_value(
    server: TrainerServer, make_task: TaskMaker
) -> None:
    task = make_task(budget={"steps": 20_000}, recipe={"evaluations": 2})

    def stop(news: dict[str, Any]) -> None:
        if news.get("spent", 0) > 0:
            task.stop()

    result = server.run(task, stop)
    assert (result.failure, result.value, result.history) == (None, None, ())
    assert result.stopped
    assert 0 < result.steps < 10_000
    assert result.images_per_second > 0
    assert left_result(task) is not None  # whoever takes the trial over has to train nothing


def test_a_budget_in_seconds_is_overshot_by_one_step_at_most(make_task: TaskMaker) -> None:
    begun: list[float] = []

    class Watched(Training):
        def step(self, progress: float) -> None:
            begun.append(progress)
            super().step(progress)

    task = make_task(budget={"seconds": 1.0}, recipe={"evaluations": 3})
    Path(task.folder).mkdir(parents=True)
    images = TrainingImages.load(task.dataset, 16, Path(task.cache))
    result = Watched(task, images, Ranks(0, 1, torch.device("cpu")), time.time()).run()
    assert len(begun) == result.steps
    assert max(begun) < 1 <= result.train_seconds
    assert begun == sorted(begun)
    # Evaluations stand outside: they happen, and none of their time was counted. A step that
    # passes two shares of the budget at once has one evaluation, on a slow machine.
    passed = {int(3 * progress + 1e-9) for progress in begun} - {0}
    assert len(result.history) == len(passed) + 1
    assert [e.train_seconds for e in result.history] == sorted(
        e.train_seconds for e in result.history
    )
    assert result.history[-1].train_seconds == pytest.approx(result.train_seconds, abs=1e-3)


def test_the_latency_is_measured_outside_of_the_budget(
    server: TrainerServer, make_task: TaskMaker
) -> None:
    wanted = LatencyConfig(batch_size=2, threads=1)
    for ranks in (1, 2):
        task = make_task(budget={"steps": 4}, ranks=ranks, latency=wanted, name=f"{ranks}")
        assert TrialTask.from_json(json.loads(json.dumps(task.to_json()))) == task
        result = server.run(task)
        found = result.latency
        assert found is not None
        assert 0 < found.p50_ms <= found.p95_ms
        assert (found.batch_size, found.threads, found.device) == (2, 1, "cpu")
        assert found.runs >= 15
        assert result.steps == 4
        assert result.other_seconds > found.runs * found.p50_ms / 2000
        assert TrainingResult.from_json(json.loads(json.dumps(result.to_json()))) == result
    assert server.run(make_task(budget={"steps": 4})).latency is None


def test_a_network_that_answers_too_slowly_is_not_trained(
    server: TrainerServer, make_task: TaskMaker
) -> None:
    asked = {"budget": {"steps": 4}, "latency": LatencyConfig()}
    slow = server.run(make_task(**asked, latency_limit_ms=1e-9, name="slow"))
    assert slow.exceeds(1e-9)
    assert (slow.value, slow.failure, slow.steps, slow.history) == (None, None, 0, ())
    fast = server.run(make_task(**asked, latency_limit_ms=1e9, name="fast"))
    assert not fast.exceeds(1e9)
    assert fast.steps == 4
    assert fast.latency is not None
