from pathlib import Path

import pytest

from betanas.training import heartbeat
from betanas.training.heartbeat import Heartbeat, HungRank


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The controller's time, and the ranks'; their threads are asleep."""
    now = [1000.0]
    monkeypatch.setattr(heartbeat.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(heartbeat.threading, "Thread", lambda **_: _NoThread())
    return now


class _NoThread:
    def start(self) -> None:
        pass


def test_rank_that_is_behind_is_named(tmp_path: Path, clock: list[float]) -> None:
    hung = HungRank(tmp_path, 40)
    ranks = [Heartbeat(tmp_path, rank) for rank in range(3)]
    for steps in (1, 2):
        clock[0] += 1
        for rank in ranks:
            rank.beat(steps)
    clock[0] += 1
    for rank in (ranks[0], ranks[2]):
        rank.beat(2)  # these two wait for the other
    assert hung.message() is None
    clock[0] += 39
    assert hung.message() is None
    clock[0] += 2
    assert "rank 1" in str(hung.message())


def test_slow_network_is_not_hung(tmp_path: Path, clock: list[float]) -> None:
    hung = HungRank(tmp_path, 40)
    rank = Heartbeat(tmp_path, 0)
    clock[0] += 30
    rank.beat(1)  # each step takes half a minute
    for _ in range(8):
        clock[0] += 11
        rank.alive()
        assert hung.message() is None
    clock[0] += 11
    rank.alive()
    assert "rank 0 gave no sign of life for 99 s, after 1" in str(hung.message())


def test_first_step_may_take_minutes(tmp_path: Path, clock: list[float]) -> None:
    hung = HungRank(tmp_path, 40)
    clock[0] += 299
    assert hung.message() is None
    rank = Heartbeat(tmp_path, 0)
    clock[0] += 299
    rank.alive()
    assert hung.message() is None
    clock[0] += 2
    rank.alive()
    assert hung.message() is not None
    clock[0] += 1
    rank.beat(0)
    assert hung.message() is None
