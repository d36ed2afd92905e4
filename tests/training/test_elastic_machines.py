"""Machines that come and go in one training: three on loopback, each with its own folder."""

from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from command import free_endpoint
from trainings import DIGITS, TaskMaker, elastic_task

from betanas.launcher.client import TrainerServer
from betanas.launcher.rendezvous import Rendezvous
from betanas.training.checkpoint import read_checkpoint
from betanas.trial import TrainingResult, TrialTask


class Story:
    """What the first machine hears; strikes when all three have saved together.

    Args:
        tasks: Of all machines.
        strike: Takes the third machine away.
    """

    def __init__(self, tasks: list[TrialTask], strike: Any) -> None:
        self._tasks, self._strike, self._struck = tasks, strike, False
        self.ranks: list[int] = []

    def __call__(self, news: dict[str, Any]) -> None:
        if "ranks" in news:
            self.ranks.append(news["ranks"])
        if "steps" not in news:
            return
        if self._struck and self.ranks[-1] == 2:
            for task in self._tasks:
                task.stop()
        saved = None if self._struck else read_checkpoint(Path(self._tasks[0].folder))
        if saved is not None and len(saved["random_states"]) == 3:
            self._struck = True
            self._strike()


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_three_machines_begin_together_and_two_go_on_when_the_third_is_lost(
    make_task: TaskMaker, tmp_path: Path
) -> None:
    """The first one, where all meet, comes last."""
    endless = {"budget": {"steps": 10**6}, "keep_checkpoint": False, "stall_seconds": 300.0}
    tasks = [elastic_task(make_task, f"node{k}", 1, **endless) for k in range(3)]
    endpoint = free_endpoint()
    with ExitStack() as stack, ThreadPoolExecutor() as pool:
        nodes = [stack.enter_context(TrainerServer(DIGITS, 16, tmp_path / "cache")) for _ in tasks]
        story = Story(tasks[:2], nodes[2].close)

        def train(rank: int) -> Future[TrainingResult]:
            meeting = Rendezvous(rank, endpoint, run_id="elastic", nnodes=(1, 3))
            heard = [story] if rank == 0 else []
            return pool.submit(nodes[rank].run, tasks[rank], *heard, rendezvous=meeting)

        lost, other, first = (train(rank) for rank in (2, 1, 0))
        results = [first.result(), other.result()]
        lost.exception()
    for result in results:
        assert result.failure is None, result.message
        assert result.images == result.steps * 50
    assert results[0].changes == results[1].changes
    assert story.ranks[-1] == 2
    assert 3 in story.ranks
    step, images, ranks = results[0].changes[-1]
    assert ranks == 2
    assert 0 < images == 50 * step < results[0].images
