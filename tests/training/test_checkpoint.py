import os
import signal
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch
from command import free_endpoint
from trainings import TaskMaker, learnt

from betanas.launcher.client import TrainerServer
from betanas.launcher.rendezvous import Rendezvous
from betanas.training.checkpoint import (
    CHECKPOINT_FILE,
    read_checkpoint,
    remove_checkpoints,
    write_checkpoint,
)
from betanas.trial import RESULT_FILE, Failure, TrainingResult


def parent_of(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs Linux's /proc")
@pytest.mark.parametrize(("ranks", "optimizer"), [(1, "adam"), (2, "adam"), (1, "muon")])
def test_interrupted_training_ends_in_the_same_weights(
    server: TrainerServer, make_task: TaskMaker, ranks: int, optimizer: str
) -> None:
    recipe = {
        "preset": "fast",
        "optimizer": optimizer,
        "autoaugment": True,
        "crop_padding": 0.1,
        "mixup": 0.2,
        "weight_average": 0.9,
        "batch_size": 64 // ranks,
        "schedule": "plateau",
        "warm_up": 0.1,
    }

    def task(name: str) -> Any:
        return make_task(
            name,
            budget={"steps": 36},
            recipe=recipe,
            ranks=ranks,
            checkpoint_seconds=0.1,
            keep_checkpoint=True,
        )

    whole, broken = task("whole"), task("broken")
    expected = server.run(whole)
    assert expected.failure is None, expected.message
    folder = Path(broken.folder)

    def kill(news: dict[str, Any]) -> None:
        if news.get("steps", 0) >= 12 and (folder / CHECKPOINT_FILE).exists():
            agent = int((folder / "agent.pid").read_text())
            os.kill(parent_of(agent), signal.SIGKILL)

    interrupted = server.run(broken, kill)
    assert interrupted.failure is Failure.CRASHED
    saved = read_checkpoint(folder)
    assert saved is not None
    assert 0 < saved["steps"] < 36

    news: list[dict[str, Any]] = []
    resumed = server.run(broken, news.append)
    assert resumed.failure is None, resumed.message
    assert all(n["steps"] > saved["steps"] for n in news if "steps" in n)
    assert learnt(resumed) == learnt(expected)
    assert resumed.steps == expected.steps
    states = [read_checkpoint(Path(t.folder)) for t in (whole, broken)]
    for key in ("model", "average", "optimizer", "plateau", "random_states"):
        assert_equal(*(state[key] for state in states if state))


@pytest.mark.slow
def test_two_nodes_go_on_from_the_first_ones_checkpoint(
    server: TrainerServer, make_task: TaskMaker, tmp_path: Path
) -> None:
    """The second node starts anew in an empty folder, as on another machine."""
    budget, recipe = {"steps": 60}, {"preset": "fast", "batch_size": 32, "weight_average": 0.9}
    expected = server.run(make_task("whole", budget=budget, recipe=recipe, ranks=2))

    def run_nodes(run_id: str, first: Any = lambda _: None) -> TrainingResult:
        def node(rank: int, trainer: TrainerServer, on_progress: Any) -> TrainingResult:
            shared = {"budget": budget, "recipe": recipe, "nnodes": 2, "checkpoint_seconds": 0.1}
            task = make_task(f"node{rank}" + run_id * rank, **shared)
            meeting = Rendezvous(rank, endpoint, run_id=run_id)
            return trainer.run(task, on_progress, meeting)

        with (
            TrainerServer(make_task().dataset, 16, tmp_path / "cache") as other,
            ThreadPoolExecutor() as pool,
        ):
            other.wait()
            there = pool.submit(node, 1, other, lambda _: None)
            here = node(0, server, first)
            there.result()
            return here

    endpoint, folder = free_endpoint(), tmp_path / "node0"

    def kill(news: dict[str, Any]) -> None:
        if news.get("steps", 0) >= 12 and (folder / CHECKPOINT_FILE).exists():
            os.kill(parent_of(int((folder / "agent.pid").read_text())), signal.SIGKILL)

    assert run_nodes("a", kill).value is None
    saved = read_checkpoint(folder)
    assert saved is not None
    news: list[dict[str, Any]] = []
    resumed = run_nodes("b", news.append)
    assert resumed.failure is None, resumed.message
    assert all(n["steps"] > saved["steps"] for n in news if "steps" in n)
    # A node's one rank has all cores and so adds in another order than two ranks that share them.
    assert resumed.images == expected.images
    assert [e.steps for e in resumed.history] == [e.steps for e in expected.history]
    assert resumed.value == pytest.approx(expected.value, abs=0.1)


def assert_equal(a: Any, b: Any) -> None:
    if isinstance(a, dict):
        assert list(a) == list(b)
        a, b = list(a.values()), list(b.values())
    if isinstance(a, list | tuple):
        assert len(a) == len(b)
        for x, y in zip(a, b, strict=True):
            assert_equal(x, y)
    elif isinstance(a, torch.Tensor):
        assert torch.equal(a, b)
    else:
        assert a == b


def test_finished_training_leaves_no_checkpoint(
    server: TrainerServer, make_task: TaskMaker
) -> None:
    task = make_task(budget={"steps": 40}, checkpoint_seconds=0.0)
    assert server.run(task).failure is None
    assert (Path(task.folder) / RESULT_FILE).exists()
    assert not list(Path(task.folder).glob("checkpoint*"))


def test_another_task_does_not_go_on_from_a_checkpoint(
    server: TrainerServer, make_task: TaskMaker
) -> None:
    first = make_task(budget={"steps": 10}, keep_checkpoint=True)
    server.run(first)
    second = make_task(budget={"steps": 10}, seed=6)
    result = server.run(second)
    assert (result.history[0].steps, result.steps) == (1, 10)
    assert not (Path(second.folder) / CHECKPOINT_FILE).exists()


def test_damaged_checkpoint_gives_way_to_the_one_before(tmp_path: Path) -> None:
    write_checkpoint(tmp_path, {"steps": 1, "weights": torch.ones(3)})
    write_checkpoint(tmp_path, {"steps": 2, "weights": torch.ones(3)})
    newest = tmp_path / CHECKPOINT_FILE
    newest.write_bytes(newest.read_bytes()[:100])
    with pytest.warns(UserWarning, match="damaged"):
        state = read_checkpoint(tmp_path)
    assert state is not None
    assert state["steps"] == 1
    newest.unlink()  # as between the two moves of a write
    assert read_checkpoint(tmp_path) is not None
    remove_checkpoints(tmp_path)
    assert read_checkpoint(tmp_path) is None
    assert not list(tmp_path.iterdir())
