"""Pictures that are decoded while a network learns: the same batches, and no process left."""

import os
import signal
from collections.abc import Iterator
from multiprocessing import active_children
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor
from trainings import TaskMaker, ranks_of, wait_until_gone

from betanas.devices.ranks import Ranks
from betanas.errors import DataError
from betanas.images.batches import Batches, HeldOut
from betanas.images.placement import TrainingImages
from betanas.images.stream import PictureStream, ReadAhead
from betanas.launcher.client import TrainerServer
from betanas.study.recipe import DatasetConfig
from betanas.trial import Failure

SIDE = 18  # what pictures are resized to for R=16, so that nothing is lost on the way


@pytest.fixture
def folder(tmp_path: Path) -> DatasetConfig:
    rng = np.random.default_rng(0)
    for i in range(60):
        place = tmp_path / "pictures" / "train" / f"class{i % 3}"
        place.mkdir(parents=True, exist_ok=True)
        pixels = rng.integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(place / f"{i:03}.png")
    return DatasetConfig(
        name="imagefolder", root=str(tmp_path / "pictures"), validation=0.2, placement="stream"
    )


def both(folder: DatasetConfig, cache: Path) -> tuple[TrainingImages, TrainingImages]:
    decoded = folder.model_copy(update={"placement": "auto"})
    return TrainingImages.load(folder, 16, cache), TrainingImages.load(decoded, 16, cache)


def test_streamed_batches_equal_decoded_ones(
    folder: DatasetConfig, make_task: TaskMaker, tmp_path: Path
) -> None:
    streamed, decoded = both(folder, tmp_path / "cache")
    assert isinstance(streamed.images, PictureStream)
    assert "streamed" in streamed.placement
    assert "decoded" in decoded.placement
    assert streamed.mean == decoded.mean
    task = make_task(recipe={"batch_size": 8, "autoaugment": True})
    ranks = Ranks(0, 1, torch.device("cpu"))
    ours, theirs = Batches(streamed, task, ranks), Batches(decoded, task, ranks)
    for step in (0, 1, 2, 9, 3):  # in order, ahead and back
        (one, targets), (other, same) = ours[step], theirs[step]
        torch.testing.assert_close(one, other, rtol=0, atol=0)
        torch.testing.assert_close(targets.labels, same.labels)
    ours.close()
    assert not active_children()
    at = streamed.held_out[:3]
    torch.testing.assert_close(
        streamed.take(at, ranks.device)[0], decoded.take(at, ranks.device)[0]
    )


def test_reading_ahead_runs_in_processes_of_its_own() -> None:
    class WhoDecodes(PictureStream):
        def decode(self, chosen: list[int], threads: int | None = None) -> Tensor:
            assert threads == 1  # the processes are many already
            return torch.tensor([[i, os.getpid()] for i in chosen])

    stream = WhoDecodes(tuple("abc"), 4)
    ahead = ReadAhead(stream, lambda number: torch.tensor([number, number + 1]), workers=2)
    batches = [ahead[number] for number in range(6)]
    assert [b[:, 0].tolist() for b in batches] == [[n, n + 1] for n in range(6)]
    assert os.getpid() not in {int(b[0, 1]) for b in batches}
    assert len({int(b[0, 1]) for b in batches}) == 2
    ahead.close()
    assert not active_children()


@pytest.fixture
def streaming_server(folder: DatasetConfig, tmp_path: Path) -> Iterator[TrainerServer]:
    with TrainerServer(folder, 16, tmp_path / "cache") as running:
        yield running


@pytest.mark.slow
def test_a_training_streams_and_names_a_broken_picture(
    streaming_server: TrainerServer, folder: DatasetConfig, make_task: TaskMaker
) -> None:
    changes = {"dataset": folder, "recipe": {"batch_size": 8, "autoaugment": False}}
    result = streaming_server.run(make_task("one", budget={"steps": 9}, ranks=2, **changes))
    assert result.failure is None, result.message
    assert result.steps == 9
    assert "streamed" in result.placement
    broken = next(Path(folder.root).glob("train/class0/*.png"))
    broken.write_bytes(b"no picture")
    result = streaming_server.run(make_task("two", budget={"epochs": 2}, **changes))
    # A broken file is nothing to hold against an architecture.
    assert result.failure is Failure.DATA
    assert str(broken) in result.message


@pytest.mark.slow
def test_reading_processes_end_with_their_rank(
    streaming_server: TrainerServer, folder: DatasetConfig, make_task: TaskMaker
) -> None:
    task = make_task(
        budget={"seconds": 60}, dataset=folder, recipe={"batch_size": 8, "autoaugment": False}
    )
    readers: list[int] = []

    def kill(news: dict[str, Any]) -> None:
        if readers or news.get("steps", 0) < 2:
            return
        rank = ranks_of(task.folder)[0]
        for thread in Path(f"/proc/{rank}/task").iterdir():
            readers.extend(int(pid) for pid in (thread / "children").read_text().split())
        os.kill(rank, signal.SIGKILL)

    assert streaming_server.run(task, kill).failure is Failure.KILLED
    assert readers
    assert not wait_until_gone(readers)


def test_ranks_without_an_image_are_named_where_they_train_and_look_at_none(
    folder: DatasetConfig, make_task: TaskMaker, tmp_path: Path
) -> None:
    images, task = both(folder, tmp_path / "cache")[1], make_task()
    last = Ranks(59, 60, torch.device("cpu"))
    with pytest.raises(DataError, match="60 ranks share 48; use --nproc-per-node 48 or fewer"):
        Batches(images, task, last)
    assert list(HeldOut(images, task, last)) == []
