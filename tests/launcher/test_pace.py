"""How fast this machine trains: measured once, with real steps, and remembered."""

import json
from pathlib import Path

import pytest
import torch
from trainings import TaskMaker

from betanas.cores import available_cores
from betanas.launcher.pace import PACE_FILE, Pace

pytestmark = pytest.mark.slow


def test_a_pace_is_measured_once(make_task: TaskMaker, tmp_path: Path) -> None:
    task, file = make_task(), tmp_path / "cache" / PACE_FILE
    workers = available_cores()
    with Pace(task, seconds=0.1, longest=600) as pace:
        alone, together = pace.alone(workers), pace.together(workers)
    assert alone is not None
    assert together is not None
    known = json.loads(file.read_text())
    assert sorted(known.values()) == sorted([alone, together])
    file.write_text(json.dumps(dict.fromkeys(known, 17.0)))
    assert Pace(task).alone(workers) == 17.0, "it is not measured again"
    with Pace(make_task(recipe={"batch_size": 32}), seconds=0.1, longest=600) as other:
        assert other.alone(workers) != 17.0


def test_it_is_measured_beside_threads_of_this_process(make_task: TaskMaker) -> None:
    torch.set_num_threads(2)
    x = torch.randn(512, 512)
    (x @ x).sum().item()  # starts threads, which no fork of this process would have
    with Pace(make_task(), seconds=0.1, longest=600) as pace:
        assert pace.alone(1) is not None


def test_what_cannot_be_measured_is_not_known(make_task: TaskMaker, tmp_path: Path) -> None:
    with Pace(make_task(), longest=0.0) as pace:
        assert pace.alone(1) is None
    assert not (tmp_path / "cache" / PACE_FILE).exists()
