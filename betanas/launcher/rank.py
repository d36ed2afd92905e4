"""What each rank of a training does: join, train, and tell how it ended."""

import os
import signal
import time
import warnings
from pathlib import Path

import torch

from betanas.devices.processes import die_with_parent
from betanas.devices.ranks import Ranks
from betanas.files import read_json
from betanas.images.placement import TrainingImages
from betanas.launcher.failures import write_failure, write_result
from betanas.study.definition import DatasetConfig
from betanas.training.checkpoint import remove_checkpoints
from betanas.training.trainer import Diverged, Training
from betanas.trial import Failure, TrainingResult, TrialTask

_PEER_GONE_SECONDS = 5.0

_loaded: dict[str, TrainingImages] = {}  # before the fork, so that all ranks share its pages


def shared_images(dataset: DatasetConfig, resolution: int, cache: str) -> TrainingImages:
    """Loads a data set's images, once in this process and all that are forked from it."""
    key = f"{dataset.model_dump_json()} {resolution}"
    if key not in _loaded:
        _loaded.clear()
        _loaded[key] = TrainingImages.load(dataset, resolution, Path(cache))
    return _loaded[key]


def run_rank(task_path: str, agent: int, launched: float, first: int) -> None:
    """Trains as one rank; the environment tells which (torchrun's variables).

    Args:
        task_path: The task's file; its folder receives what the rank tells.
        agent: Process id of the agent, with which the rank ends.
        launched: When the trial was launched, ``time.time()`` seconds.
        first: The lowest rank of this node.
    """
    die_with_parent(agent)
    # The agent's own handler came along with the fork; it would make a story of being ended.
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    warnings.filterwarnings("ignore", category=FutureWarning)
    task = TrialTask.from_json(read_json(Path(task_path)))
    folder = Path(task.folder)
    cores = os.cpu_count() or 1
    torch.set_num_threads(max(1, cores // task.nproc_per_node))
    local_rank = int(os.environ["LOCAL_RANK"])
    rank = first + local_rank
    os.environ["RANK"] = str(rank)
    try:
        ranks = Ranks.join(task.device)
        images = shared_images(task.dataset, task.architecture.resolution, task.cache)
        result = Training(task, images, ranks, launched).run()
    except Diverged as error:
        # All ranks come here together, so none of them has to be ended.
        result = TrainingResult(value=None, failure=Failure.DIVERGED, message=str(error))
    except Exception as error:
        if write_failure(folder, rank, error):
            # The agent looks at the first rank that ends: let that be the one that is to blame.
            time.sleep(_PEER_GONE_SECONDS)
        raise
    if local_rank == 0:  # all ranks have the same; each node keeps it
        write_result(folder, result)
        remove_checkpoints(folder, keep_newest=task.keep_checkpoint)
    ranks.leave()
