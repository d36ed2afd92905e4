"""How fast this machine trains: measured once, with real steps, and remembered."""

import json
from pathlib import Path

import pytest
from trainings import TaskMaker

from betanas.cores import available_cores
from betanas.launcher import pace
from betanas.launcher.pace import PACE_FILE, Pace

pytestmark = pytest.mark.slow


def test_a_pace_is_measured_once(
    make_task: TaskMaker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pace, "SECONDS", 0.1)
    task, file = make_task(), tmp_path / "cache" / PACE_FILE
    workers = available_cores()
    alone = Pace(task).alone(workers)
    together = Pace(task).together(workers)
    assert alone is not None
    assert together is not None
    known = json.loads(file.read_text())
    assert sorted(known.values()) == sorted([alone, together])
    file.write_text(json.dumps(dict.fromkeys(known, 17.0)))
    assert Pace(task).alone(workers) == 17.0, "it is not measured again"
    assert Pace(make_task(recipe={"batch_size": 32})).alone(workers) != 17.0


def test_what_cannot_be_measured_is_not_known(
    make_task: TaskMaker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pace, "_LONGEST_SECONDS", 0.0)
    assert Pace(make_task()).alone(1) is None
    assert not (tmp_path / "cache" / PACE_FILE).exists()
