"""Whatever happens to the processes of a training, it ends with a typed result."""

import os
import signal
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from trainings import TaskMaker, ranks_of, wait_until_gone

from betanas.files import read_json, write_json
from betanas.launcher import client
from betanas.launcher.client import TrainerServer, _clear
from betanas.launcher.failures import conclude, write_failure
from betanas.trial import LOG_FILE, RESULT_FILE, TASK_FILE, Failure, TrainingResult

LONG = {"seconds": 120}


class Interrupt:
    """Does something once, when a training has made its first steps."""

    def __init__(self, folder: str, rank: int, signal_: int) -> None:
        self._folder, self._rank, self._signal = folder, rank, signal_
        self.pids: dict[int, int] = {}

    def __call__(self, news: dict[str, Any]) -> None:
        if not self.pids and news.get("steps", 0) >= 2:
            self.pids = ranks_of(self._folder)
            os.kill(self.pids[self._rank], self._signal)


pytestmark = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs Linux's /proc")


@pytest.mark.parametrize("rank", [0, 1])
def test_killed_rank_is_named(server: TrainerServer, make_task: TaskMaker, rank: int) -> None:
    task = make_task(budget=LONG, ranks=2)
    interrupt = Interrupt(task.folder, rank, signal.SIGKILL)
    result = server.run(task, interrupt)
    assert result.failure is Failure.KILLED, result.message
    assert f"rank {rank}" in result.message
    assert not wait_until_gone(list(interrupt.pids.values()))


def test_killed_rank_is_named_though_another_notices_before_the_agent(
    server: TrainerServer, make_task: TaskMaker
) -> None:
    task = make_task(budget=LONG, ranks=2)
    interrupt = Interrupt(task.folder, 1, signal.SIGKILL)

    def kill_behind_the_agents_back(news: dict[str, Any]) -> None:
        if interrupt.pids or news.get("steps", 0) < 2:
            return
        agent = int((Path(task.folder) / "agent.pid").read_text())
        os.kill(agent, signal.SIGSTOP)
        interrupt(news)
        story = Path(task.folder) / "rank-0.failure.json"
        deadline = time.monotonic() + 20
        while not story.exists() and time.monotonic() < deadline:
            time.sleep(0.05)
        time.sleep(0.5)
        os.kill(agent, signal.SIGCONT)

    result = server.run(task, kill_behind_the_agents_back)
    assert result.failure is Failure.KILLED, result.message
    assert "rank 1" in result.message


def test_hung_rank_is_named_and_ended(
    server: TrainerServer, make_task: TaskMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client, "_SILENT_SECONDS", 1.0)
    task = make_task(budget=LONG, ranks=2, stall_seconds=4.0)
    interrupt = Interrupt(task.folder, 1, signal.SIGSTOP)
    heard: list[dict[str, Any]] = []

    def listen(news: dict[str, Any]) -> None:
        heard.append(news)
        interrupt(news)

    result = server.run(task, listen)
    assert heard[-2:] == [{}, {}]  # while it was silent: who holds a claim on the trial renews it
    assert result.failure is Failure.TIMED_OUT
    assert "rank 1 gave no sign of life" in result.message
    assert not wait_until_gone(list(interrupt.pids.values()))
    # The server went with it; the next trial has a new one.
    assert server.run(make_task("next")).failure is None


def test_loss_that_is_no_number(server: TrainerServer, make_task: TaskMaker) -> None:
    recipe = {"optimizer": "sgd", "learning_rate": 1e30}
    result = server.run(make_task(ranks=2, recipe=recipe))
    assert result.failure is Failure.DIVERGED
    assert "not finite" in result.message


def test_too_little_memory(server: TrainerServer, make_task: TaskMaker) -> None:
    # Its weights alone are more than a processor can address.
    result = server.run(
        make_task(architecture=replace(make_task().architecture, latent_channels=10**13))
    )
    assert result.failure is Failure.OUT_OF_MEMORY, result.message
    assert result.message.startswith("rank 0")


def test_rank_that_raises(server: TrainerServer, make_task: TaskMaker) -> None:
    two_classes = replace(make_task().architecture, num_classes=2)
    before = set(Path(tempfile.gettempdir()).glob("pytorch-errorfile*"))
    task = make_task(architecture=two_classes, ranks=2)
    result = server.run(task)
    assert result.failure is Failure.CRASHED
    assert "rank" in result.message
    assert "out of bounds" in result.message
    assert "Traceback" in (Path(task.folder) / LOG_FILE).read_text()
    assert set(Path(tempfile.gettempdir()).glob("pytorch-errorfile*")) <= before


def test_whoever_is_killed_while_a_folder_is_cleared_finds_its_checkpoint_again(
    make_task: TaskMaker,
) -> None:
    task = make_task()
    folder = Path(task.folder)
    folder.mkdir(parents=True)
    write_json(folder / TASK_FILE, task.to_json())
    (folder / "checkpoint.pt").touch()
    (folder / "rank-0.beat").touch()
    _clear(folder, task)
    assert not (folder / "rank-0.beat").exists()
    _clear(folder, task)  # by the next one, before anything was written
    assert (folder / "checkpoint.pt").exists()
    _clear(folder, replace(task, seed=task.seed + 1))
    assert not (folder / "checkpoint.pt").exists()


@pytest.mark.parametrize("victim", ["server", "agent"])
def test_no_process_outlives_its_parent(
    server: TrainerServer, make_task: TaskMaker, victim: str
) -> None:
    task = make_task(budget=LONG, ranks=2)
    pids: list[int] = []

    def kill(news: dict[str, Any]) -> None:
        if pids or news.get("steps", 0) < 2:
            return
        agent = int((Path(task.folder) / "agent.pid").read_text())
        pids.extend([agent, *ranks_of(task.folder).values()])
        parent = Path(f"/proc/{agent}/stat").read_text().rpartition(")")[2].split()[1]
        os.kill(agent if victim == "agent" else int(parent), signal.SIGKILL)

    result = server.run(task, kill)
    assert result.failure is Failure.CRASHED
    assert not wait_until_gone(pids)
    assert len(pids) == 3


@pytest.mark.parametrize(
    "message",
    [
        "CUDA out of memory. Tried to allocate 41.02 GiB.",
        "CUDA error: out of memory",
        "CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`",
        "cuDNN error: CUDNN_STATUS_INTERNAL_ERROR_HOST_ALLOCATION_FAILED",
        "NCCL error: unhandled cuda error, Last error: Failed to CUDA calloc async 608 bytes",
    ],
)
def test_allocation_failures_in_all_their_spellings(tmp_path: Path, message: str) -> None:
    write_failure(tmp_path, 0, RuntimeError(message))
    conclude(tmp_path, {0: 1})
    result = TrainingResult.from_json(read_json(tmp_path / RESULT_FILE))
    assert result.failure is Failure.OUT_OF_MEMORY


def test_device_that_does_not_answer_is_lost_and_the_kernel_is_not_blamed(tmp_path: Path) -> None:
    # Here a fresh process finds no GPU either, as on a machine that has just lost its own.
    write_failure(tmp_path, 0, torch.AcceleratorError("CUDA error: unspecified launch failure"))
    conclude(tmp_path, {0: 1})
    failure = TrainingResult.from_json(read_json(tmp_path / RESULT_FILE)).failure
    assert failure is Failure.DEVICE_LOST
    assert not failure.blames_kernel
