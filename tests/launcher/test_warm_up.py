"""What the next trial's process does before it knows its task."""

import tempfile
import time
from pathlib import Path

import pytest
import torch
from trainings import TaskMaker, learnt

from betanas.devices.ranks import Ranks
from betanas.launcher.rank import shared_images, warm_up
from betanas.training.trainer import Training
from betanas.trial import TrialTask

CPU = torch.device("cpu")


def learn(task: TrialTask) -> object:
    Path(task.folder).mkdir(parents=True, exist_ok=True)
    images = shared_images(task.dataset, task.architecture.resolution, task.cache)
    return learnt(Training(task, images, Ranks(0, 1, CPU), time.time()).run())


def test_a_warm_up_leaves_nothing_behind(
    make_task: TaskMaker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "own"))
    (tmp_path / "own").mkdir()
    task = make_task(budget={"steps": 5})
    expected, threads = learn(task), torch.get_num_threads()
    before = sorted(Path(task.folder).rglob("*"))
    try:
        warm_up(task, CPU)
    finally:
        torch.set_num_threads(threads)
    assert sorted(Path(task.folder).rglob("*")) == before
    assert not list((tmp_path / "own").iterdir())
    assert learn(task) == expected  # it has taught nobody anything
