"""Training a supernet by the ordinary trainer: it learns, chooses, and survives kills."""

import os
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from test_checkpoint import parent_of
from trainings import TaskMaker, learnt

from betanas.architecture.mbconv import MBCONV, SKIP
from betanas.architecture.supernet import SupernetPlan
from betanas.launcher.client import TrainerServer
from betanas.study.sections import OneShotConfig
from betanas.training.checkpoint import CHECKPOINT_FILE
from betanas.trial import Failure, SupernetTask, TrialTask

SHAPE = {"stem": 1, "stages": 1, "blocks": 3, "width": 0.25, "tail": 16, "head": 16}
ROWS = {"3x3-3": 1.0, "3x3-6": 1.6, "5x5-3": 1.4, "5x5-6": 2.4, SKIP: 0.0}


def supernet_task(make_task: TaskMaker, name: str, steps: int = 40, **config: Any) -> TrialTask:
    names = [n for n in MBCONV.names if n.startswith("s1b")][:3]
    options = {n: MBCONV.ranges[n] for n in names}
    plan = SupernetPlan(SHAPE, options, 1.0, dict.fromkeys(names, ROWS))
    return make_task(
        name,
        budget={"steps": steps},
        recipe={"preset": "fast", "batch_size": 32, "evaluations": 4},
        architecture=plan.largest(16, 10),
        checkpoint_seconds=0.1,
        supernet=SupernetTask(plan, OneShotConfig(**config)),
    )


@pytest.mark.parametrize("method", ["single-path", "proxyless"])
def test_killed_supernet_chooses_what_an_undisturbed_one_does(
    server: TrainerServer, make_task: TaskMaker, method: str
) -> None:
    config = {"method": method, "warm_up_steps": 4, "gate_learning_rate": 0.1}
    whole, broken = (supernet_task(make_task, n, **config) for n in ("whole", "broken"))
    expected = server.run(whole)
    assert expected.failure is None, expected.message
    folder = Path(broken.folder)

    def kill(news: dict[str, Any]) -> None:
        if news.get("steps", 0) >= 12 and (folder / CHECKPOINT_FILE).exists():
            agent = int((folder / "agent.pid").read_text())
            os.kill(parent_of(agent), signal.SIGKILL)

    assert server.run(broken, kill).failure is Failure.CRASHED
    resumed = server.run(broken)
    assert resumed.failure is None, resumed.message
    assert learnt(resumed) == learnt(expected)
    assert resumed.supernet == expected.supernet
    assert expected.supernet is not None
    assert [s["steps"] for s in expected.supernet["history"]] == [10, 20, 30, 40]


@pytest.mark.parametrize(
    "config",
    [{"method": "single-path"}, {"method": "proxyless", "gate_update": "reinforce"}],
    ids=["single-path", "reinforce"],
)
def test_a_runtime_that_weighs_all_leads_to_the_fastest_network(
    server: TrainerServer, make_task: TaskMaker, config: dict[str, Any]
) -> None:
    heavy = {"latency_weight": 100.0, "gate_learning_rate": 0.2, **config}
    task = supernet_task(make_task, "heavy", 60, **heavy)
    result = server.run(task)
    assert result.failure is None, result.message
    assert result.supernet is not None
    assert task.supernet is not None
    assert result.supernet["choices"] == task.supernet.plan.fastest
    assert result.supernet["runtime_ms"] == 1.0 + 1.0


def test_nothing_is_weighed_before_the_warm_up_ends(
    server: TrainerServer, make_task: TaskMaker
) -> None:
    tasks = [
        supernet_task(make_task, f"{weight}", 10, latency_weight=weight, warm_up_steps=10)
        for weight in (0.0, 100.0)
    ]
    first, second = (server.run(task) for task in tasks)
    assert first.failure is None, first.message
    assert first.supernet == second.supernet


def test_a_task_with_a_supernet_survives_json(make_task: TaskMaker) -> None:
    task = supernet_task(make_task, "task", latency_weight=0.3)
    assert TrialTask.from_json(task.to_json()) == task
    assert replace(task, supernet=None) != task
