"""What each rank of a training does: join, train, and tell how it ended."""

import os
import signal
import sys
import tempfile
import time
import traceback
import warnings
from dataclasses import replace
from pathlib import Path
from typing import NoReturn

import torch

from betanas.cores import available_cores
from betanas.devices.processes import die_with_parent
from betanas.devices.ranks import Ranks
from betanas.files import read_json
from betanas.images.placement import TrainingImages
from betanas.images.stream import PictureStream
from betanas.launcher.failures import conclude, write_failure, write_result
from betanas.launcher.order import Order
from betanas.study.recipe import Budget, DatasetConfig
from betanas.training.checkpoint import remove_checkpoints
from betanas.training.supernet import SupernetTraining
from betanas.training.trainer import Diverged, Training
from betanas.trial import LOG_FILE, RESULT_FILE, Failure, TrainingResult, TrialTask

_PEER_GONE_SECONDS = 5.0
_WARM_UP_PIXELS = 2**19  # of a batch

_loaded: dict[str, TrainingImages] = {}  # before the fork, so that all ranks share its pages


def shared_images(dataset: DatasetConfig, resolution: int, cache: str) -> TrainingImages:
    """Loads a data set's images, once in this process and all that are forked from it."""
    key = f"{dataset.model_dump_json()} {resolution}"
    if key not in _loaded:
        _loaded.clear()
        _loaded[key] = TrainingImages.load(dataset, resolution, Path(cache))
    return _loaded[key]


def log_into(folder: Path) -> None:
    """Sends all that this process prints to a trial's log."""
    log = os.open(folder / LOG_FILE, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    os.dup2(log, 1)
    os.dup2(log, 2)
    os.close(log)


def run_rank(
    order: Order, agent: int, first: int | None, device: str, like: Path | None = None
) -> None:
    """Trains as one rank; the environment tells which (torchrun's variables).

    Args:
        order: Brings the task's file, whose folder receives what the rank tells, and the moment
            when the trial was launched, ``time.time()`` seconds.
        agent: Process id of the agent, with which the rank ends.
        first: The lowest rank of this node; None where ranks come and go, and the environment tells
            which this one is for now.
        device: ``cpu`` or ``cuda``.
        like: The file of a task that the one to come is perhaps like.
    """
    die_with_parent(agent)
    # The agent's own handler came along with the fork; it would make a story of being ended.
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    warnings.filterwarnings("ignore", category=FutureWarning)
    if order.known() is None and device == "cuda" and like is not None:
        _warm_up_like(like)
    request = order.wait()
    if request is None:
        return
    task = TrialTask.from_json(read_json(Path(request["task"])))
    folder = Path(task.folder)
    log_into(folder)
    if first is None and (folder / RESULT_FILE).exists():
        return  # it was over when another rank was lost
    torch.set_num_threads(max(1, available_cores() // task.nproc_per_node))
    local_rank = int(os.environ["LOCAL_RANK"])
    rank = local_rank if first is None else first + local_rank
    launched = request["launched"]
    if first is not None:
        os.environ["RANK"] = str(rank)
    elif (folder / f"rank-{rank}.beat").exists():
        launched = time.time()  # this one replaces another: what was before is not its start-up
    try:
        ranks = Ranks.join(task.device)
        images = shared_images(task.dataset, task.architecture.resolution, task.cache)
        train = Training if task.supernet is None else SupernetTraining
        try:
            result = train(task, images, ranks, launched).run()
        except Diverged as error:
            # All ranks come here together, so none of them has to be ended.
            result = TrainingResult(value=None, failure=Failure.DIVERGED, message=str(error))
        if local_rank == 0:  # all ranks have the same; each node keeps it
            write_result(folder, result)
            remove_checkpoints(folder, keep_newest=task.keep_checkpoint)
    except Exception as error:
        _fail(folder, rank, error, agent, comes_and_goes=first is None)
    ranks.leave()


def _fail(
    folder: Path, rank: int, error: Exception, agent: int, *, comes_and_goes: bool
) -> NoReturn:
    """Tells what has gone wrong, and ends the process."""
    peer = write_failure(folder, rank, error)
    if comes_and_goes and not peer:
        # It would fail again here; where another machine can train, it goes on without this.
        conclude(folder, {})
        os.kill(agent, signal.SIGKILL)
    elif peer and not comes_and_goes:
        # The agent looks at the first rank that ends: let that be the one that is to blame.
        time.sleep(_PEER_GONE_SECONDS)
    # Told already: raised on, torch would leave a file in the temporary folder as well.
    traceback.print_exception(error)
    sys.stderr.flush()
    os._exit(1)


def _warm_up_like(like: Path) -> None:
    """Warms up a GPU for a network like a task's.

    Not for depthwise convolutions as well, whose kernels take up to 7 s to load: on an H100 that
    lasted longer than a trial of 5 s, every second one of which then waited 2 s for it, and those
    of depthwise convolutions began no sooner (docs/gpu.md).
    """
    device = torch.device("cuda", 0)
    try:
        torch.cuda.set_device(device)
        warm_up(TrialTask.from_json(read_json(like)), device)  # unless its folder is gone already
    except Exception:  # the training itself will tell what is wrong
        torch.cuda.empty_cache()


def warm_up(task: TrialTask, device: torch.device) -> None:
    """Loads what a training like a given one needs: CUDA's context, libraries, most kernels.

    That takes seconds in a fresh process. It makes a step and an evaluation of the same network,
    with a batch so small that the task's own training, on the same GPU, has memory left.

    Args:
        task: One of one rank, whose folder nothing is written to.
        device: Where it trains.
    """
    torch.set_num_threads(1)  # of cores that another training uses
    ranks = Ranks(0, 1, device)
    images = shared_images(task.dataset, task.architecture.resolution, task.cache)
    if task.supernet is not None or isinstance(images.images, PictureStream):
        torch.zeros((), device=ranks.device)
        return
    most = max(2, _WARM_UP_PIXELS // task.architecture.resolution**2)
    batch = min(task.recipe.batch_size, most)
    told = {"batch_size": batch, "evaluations": 1, "evaluate_every_epochs": 0, "compile": False}
    with tempfile.TemporaryDirectory() as folder:
        like = replace(
            task, folder=folder, recipe=task.recipe.model_copy(update=told), latency=None,
            budget=Budget(seconds=1e-3), keep_checkpoint=False, keep_best=False, pretrained=False,
            latency_limit_ms=None,
        )  # fmt: skip
        Training(like, images, ranks, time.time()).run()
    if device.type == "cuda":
        torch.cuda.synchronize()
        torch.cuda.empty_cache()
