"""Small trainings on the digits: their tasks, what they learn, and the processes of their ranks."""

import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from command import is_alive

from betanas.architecture.decoding import decode
from betanas.architecture.families import FAMILIES
from betanas.study.recipe import Budget, DatasetConfig, Recipe
from betanas.trial import TrainingResult, TrialTask

DIGITS = DatasetConfig(name="digits", validation=0.25)
TaskMaker = Callable[..., TrialTask]


def small_task(
    folder: Path,
    name: str = "trial",
    budget: dict[str, Any] | None = None,
    recipe: dict[str, Any] | None = None,
    ranks: int = 1,
    **changes: Any,
) -> TrialTask:
    """A task of a small network with residual branches of both kinds."""
    family = FAMILIES["betanet2"]
    kernel = {**family.published, "k": 1.5, "K": 2.0, "B": 0.9}
    return TrialTask(
        **{
            "number": 0,
            "seed": 5,
            "architecture": decode(family, kernel, changes.pop("resolution", 16), 10),
            "dataset": DIGITS,
            "recipe": Recipe(**{"batch_size": 64, "autoaugment": False, **(recipe or {})}),
            "budget": Budget(**(budget or {"steps": 12})),
            "nproc_per_node": ranks,
            "device": "cpu",
            "folder": str(folder / name),
            "cache": str(folder / "cache"),
            **changes,
        }
    )


def elastic_task(make_task: TaskMaker, name: str, ranks: int, **changes: Any) -> TrialTask:
    """A task whose ranks may come and go; it saves all the time."""
    recipe = {
        "elastic": "fixed-batch",
        "batch_size": 50,
        "optimizer": "sgd",
        "learning_rate": 0.05,
        "schedule": "constant",
        "sync_batch_norm": True,
        "precision": "float32",
        "evaluations": 1,
        "label_smoothing": 0.1,
        "mixup": 0.2,
    }
    shared = {"checkpoint_seconds": 0.02, "keep_checkpoint": True, "budget": {"steps": 50}}
    return make_task(name, ranks=ranks, **{"recipe": recipe, **shared, **changes})


def learnt(result: TrainingResult) -> object:
    """What must not depend on the clock."""
    return [replace(e, train_seconds=0.0) for e in result.history]


def ranks_of(folder: str) -> dict[int, int]:
    """Process ids of a trial's ranks, from what the operating system knows."""
    agent = (Path(folder) / "agent.pid").read_text()
    children = Path(f"/proc/{agent}/task/{agent}/children").read_text()
    return dict(enumerate(int(pid) for pid in children.split()))


def wait_until_gone(pids: list[int]) -> list[int]:
    """Waits ten seconds at most; returns those that still run."""
    for _ in range(100):
        if not any(is_alive(pid) for pid in pids):
            break
        time.sleep(0.1)
    return [pid for pid in pids if is_alive(pid)]
