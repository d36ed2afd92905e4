"""Ranks that come and go: which images they learn, at which rate, and to the same end."""

import json
import os
import signal
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from trainings import DIGITS, TaskMaker, elastic_task, ranks_of

from betanas.devices.ranks import Ranks
from betanas.devices.seeds import seed_dropout
from betanas.errors import InputError
from betanas.files import write_json
from betanas.images.batches import Batches, share_of
from betanas.images.placement import TrainingImages
from betanas.jobs.train import _meeting_name
from betanas.launcher.client import TrainerServer
from betanas.launcher.rendezvous import Rendezvous
from betanas.training.checkpoint import read_checkpoint, write_checkpoint
from betanas.training.elastic import Change, rate_scale, with_change
from betanas.trial import TASK_FILE, TrialTask

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> TrainingImages:
    loaded = TrainingImages.load(DIGITS, 16, tmp_path_factory.mktemp("cache"))
    return loaded.place(CPU, "host")


@pytest.mark.parametrize("batch", [16, 17, 100, 101])
@pytest.mark.parametrize("ranks", [1, 2, 3, 7])
def test_shares_are_a_whole_batch_in_pairs(batch: int, ranks: int) -> None:
    shares = [share_of(batch, rank, ranks) for rank in range(ranks)]
    assert [i for s in shares for i in range(batch)[s]] == list(range(batch))
    assert all(s.start % 2 == 0 for s in shares)
    lengths = [s.stop - s.start for s in shares]
    assert max(lengths) - min(lengths) <= 3
    assert min(lengths) >= 2


def test_a_batch_too_small_for_its_ranks_says_so() -> None:
    with pytest.raises(InputError, match="batch_size 8 for 5 ranks"):
        share_of(8, 0, 5)


def test_rates_move_in_a_line_after_each_change() -> None:
    changes = [Change(0, 0, 1)]
    assert rate_scale(changes, 7, 4) == 1
    changes = with_change(changes, 10, 640, 3)
    assert [rate_scale(changes, s, 4) for s in range(10, 16)] == [1, 1.5, 2, 2.5, 3, 3]
    # A change in mid-way begins where the line has come to.
    changes = with_change(changes, 12, 1024, 1)
    assert [rate_scale(changes, s, 4) for s in range(12, 18)] == [2, 1.75, 1.5, 1.25, 1, 1]
    assert with_change(changes, 20, 2000, 1) == changes
    assert [rate_scale(changes[:2], s, 0) for s in (10, 11)] == [3, 3]


def test_dynamic_batches_hold_every_image_once_an_epoch_across_changes(
    make_task: TaskMaker, images: TrainingImages
) -> None:
    task = make_task(recipe={"elastic": "dynamic", "autoaugment": True, "mixup": 0.2})
    alone, learnt, step, seen = Batches(images, task, Ranks(0, 1, CPU)), [], 0, 0
    for size, steps in ((1, 5), (3, 9), (2, 14), (3, 3)):
        crew = [Batches(images, task, Ranks(rank, size, CPU)) for rank in range(size)]
        for batches in crew:
            batches.begin(step, seen)
            assert batches.per_step == 64 * size
        for at in range(step, step + steps):
            for batches in crew:
                learnt.append(batches.indices(at))
                inputs, targets = batches[at]
                # What one rank alone learns as its n-th batch, augmentation and all.
                expected, labels = alone[len(learnt) - 1]
                assert torch.equal(targets.labels, labels.labels)
                assert torch.allclose(inputs, expected, atol=1e-5)
        step, seen = step + steps, seen + steps * 64 * size
    row, number = torch.cat(learnt), len(images.train)
    assert len(row) == seen > 3 * number
    for epoch in range(len(row) // number):
        once = row[epoch * number : (epoch + 1) * number]
        assert torch.equal(once.sort().values, images.train.sort().values)


@pytest.mark.parametrize("size", [2, 3])
def test_a_fixed_batch_is_the_same_for_any_number_of_ranks(
    make_task: TaskMaker, images: TrainingImages, size: int
) -> None:
    task = make_task(recipe={"elastic": "fixed-batch", "batch_size": 50, "mixup": 0.2})
    whole = Batches(images, task, Ranks(0, 1, CPU))
    crew = [Batches(images, task, Ranks(rank, size, CPU)) for rank in range(size)]
    assert sum(b.weight for b in crew) == pytest.approx(size)
    for step in (0, 3, 40):
        inputs, targets = whole[step]
        parts = [batches[step] for batches in crew]
        assert torch.allclose(torch.cat([p for p, _ in parts]), inputs, atol=1e-5)
        assert torch.equal(torch.cat([t.labels for _, t in parts]), targets.labels)


@pytest.mark.parametrize(
    ("options", "rule"),
    [
        (("3:1", "host0:29400", 0), "1 <= MIN <= MAX"),
        (("two", "host0:29400", 0), "1 <= MIN <= MAX"),
        (("1:3", None, 0), "needs --rdzv-endpoint"),
        (("1:3", "127.0.0.1:29400", 3), r"must be in \[0, 2\]"),
        (("1", "127.0.0.1:29400", None), "needs --nnodes >= 2"),
    ],
)
def test_machines_that_come_and_go_are_told_the_rules(options: Any, rule: str) -> None:
    with pytest.raises(InputError, match=rule):
        Rendezvous.elastic(*options)


def test_a_machine_waits_until_the_first_one_listens() -> None:
    """Whose images may take longer than torch waits for it."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    meeting = Rendezvous(1, f"127.0.0.1:{port}", nnodes=(1, 2))
    meeting.wait_for_host(seconds=0.2)  # what then becomes of it torch says
    heard: list[float] = []

    def listen_later() -> None:
        time.sleep(1)
        with socket.create_server(("127.0.0.1", port)) as listening:
            heard.append(time.monotonic())
            listening.accept()

    late = threading.Thread(target=listen_later)
    late.start()
    meeting.wait_for_host(seconds=60)
    assert heard
    late.join()
    replace(meeting, node_rank=0).wait_for_host()  # the first one waits for nobody


def test_machines_meet_wherever_each_has_the_images(make_task: TaskMaker) -> None:
    task = make_task()
    here, there = (
        replace(task, dataset=task.dataset.model_copy(update={"root": root, "placement": "host"}))
        for root in ("/home/a/photos", "/home/b/photos")
    )
    assert _meeting_name(here) == _meeting_name(there) == _meeting_name(task)
    other = task.dataset.model_copy(update={"validation": 0.3})
    assert _meeting_name(replace(task, dataset=other)) != _meeting_name(task)


def test_each_rank_drops_out_what_it_draws_itself() -> None:
    drawn = []
    for rank in (0, 1, 2):
        torch.manual_seed(7)
        seed_dropout(7, Ranks(rank, 3, CPU), 0)
        drawn.append(torch.rand(8))
    torch.manual_seed(7)
    assert torch.equal(drawn[0], torch.rand(8))
    assert not torch.equal(drawn[0], drawn[1])
    assert not torch.equal(drawn[1], drawn[2])


def test_a_machine_knows_how_many_there_may_be_and_its_own_address() -> None:
    found = Rendezvous.elastic("1:3", "127.0.0.1:29400", 2)
    assert (found.nnodes, found.node_rank, found.address) == ((1, 3), 2, "127.0.0.1")
    assert Rendezvous.from_json(found.to_json()) == found
    assert Rendezvous.elastic("1", None, None) == Rendezvous()


def hand_over(task: TrialTask, following: TrialTask) -> None:
    """Has one training go on from another's checkpoint, as if it had been interrupted there."""
    saved, folder = read_checkpoint(Path(task.folder)), Path(following.folder)
    assert saved is not None
    folder.mkdir()
    write_checkpoint(folder, saved | {"task": json.dumps(following.identity)})
    write_json(folder / TASK_FILE, replace(following, nproc_per_node=7).to_json())


def test_one_two_one_ranks_end_in_the_weights_of_one(
    server: TrainerServer, make_task: TaskMaker
) -> None:
    steady = elastic_task(make_task, "steady", 1)
    assert server.run(steady).failure is None
    task = None
    for ranks, steps in ((1, 17), (2, 34), (1, 50)):
        following = elastic_task(make_task, f"until-{steps}", ranks, budget={"steps": steps})
        if task is not None:
            hand_over(task, following)
        task = following
        result = server.run(task)
        assert result.failure is None, result.message
    assert result.changes == ((17, 850, 2), (34, 1700, 1))
    assert (result.steps, result.images) == (50, 2500)
    states = [read_checkpoint(Path(t.folder)) for t in (steady, task)]
    ours, theirs = (torch.cat([w.flatten().double() for w in s["model"].values()]) for s in states)
    assert (ours - theirs).abs().max() < 1e-5


class Striking:
    """Strikes once a training has saved something, and stops it once it goes on after that.

    Args:
        task: What is trained; its news are heard.
        strike: What is done to it.
    """

    def __init__(self, task: TrialTask, strike: Callable[[], None]) -> None:
        self._task, self._strike, self._struck = task, strike, False
        self.went_on: list[tuple[int, int]] = []

    def __call__(self, news: dict[str, Any]) -> None:
        if "ranks" in news and self._struck:
            self.went_on.append((news["ranks"], news["images"]))
        elif "steps" in news and self.went_on:
            self._task.stop()
        elif "steps" in news and not self._struck:
            saved = read_checkpoint(Path(self._task.folder))
            if saved is not None and saved["steps"] > 0:
                self._struck = True
                self._strike()


def test_a_killed_rank_does_not_end_its_training(
    server: TrainerServer, make_task: TaskMaker
) -> None:
    endless = {"budget": {"steps": 10**6}, "keep_checkpoint": False}
    task = elastic_task(make_task, "killed", 3, **endless)
    striking = Striking(task, lambda: os.kill(ranks_of(task.folder)[1], signal.SIGKILL))
    result = server.run(task, striking)
    assert result.failure is None, result.message
    ((ranks, images),) = striking.went_on
    assert ranks == 3
    assert 0 < images < result.images == result.steps * 50
    assert result.changes == ()
