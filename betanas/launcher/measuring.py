"""Training steps against the clock: what the trainer server does to tell how fast it is.

The processes are forks of the server, which never had a thread: a fork of one that had would wait
for ever for the threads that it lacks.
"""

import multiprocessing
import os
import signal
import tempfile
import time
import traceback
from collections.abc import Sequence
from dataclasses import replace
from multiprocessing.connection import Connection, wait
from pathlib import Path

import torch

from betanas.cores import available_cores, pin
from betanas.devices.processes import die_with_parent
from betanas.devices.ranks import Ranks
from betanas.launcher.rank import shared_images
from betanas.training.trainer import Training
from betanas.trial import TrialTask

_FORK = multiprocessing.get_context("fork")


def measure(
    task: TrialTask, shares: Sequence[Sequence[int]], seconds: float, longest: float
) -> list[float]:
    """Images a second of processes that train at once, one for each share of the cores.

    Args:
        task: What each trains.
        shares: The cores of each.
        seconds: How long each is watched, after its first steps.
        longest: After how many seconds in all it is given up.

    Returns:
        One figure each; none at all if one of them failed or did not come to an end.
    """
    shared_images(task.dataset, task.architecture.resolution, task.cache)  # before the forks
    barrier = _FORK.Barrier(len(shares))
    deadline = time.monotonic() + longest
    processes, waiting = [], []
    with tempfile.TemporaryDirectory(prefix="betanas-pace-") as folder:
        for i, cores in enumerate(shares):
            answer, send = _FORK.Pipe(duplex=False)
            own = replace(task, folder=f"{folder}/{i}")
            job = (own, cores, barrier, send, os.getpid(), seconds)
            process = _FORK.Process(target=_train, args=job)
            process.start()
            send.close()
            processes.append(process)
            waiting.append(answer)
        found: list[float] = []
        try:
            while waiting:
                ready = wait(waiting, timeout=max(0.0, deadline - time.monotonic()))
                if not ready:
                    return []
                for answer in set(waiting).intersection(ready):
                    found.append(answer.recv())
                    waiting.remove(answer)
        except EOFError:
            return []
        finally:
            for process in processes:
                process.kill()
                process.join()
        return found


def _train(
    task: TrialTask,
    cores: Sequence[int],
    barrier: "multiprocessing.synchronize.Barrier",
    send: Connection,
    parent: int,
    seconds: float,
) -> None:
    """What each fork does."""
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    die_with_parent(parent)
    try:
        pin(cores)
        torch.set_num_threads(available_cores())
        Path(task.folder).mkdir()
        images = shared_images(task.dataset, task.architecture.resolution, task.cache)
        training = Training(task, images, Ranks(0, 1, torch.device("cpu")), time.time())
        send.send(training.pace(seconds, barrier.wait))
    except Exception:  # without an answer there is no measurement; why, is told
        traceback.print_exc()
