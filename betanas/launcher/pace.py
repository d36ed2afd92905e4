"""How many images a second a network trains on: on some cores, alone and beside others.

Threads bring a small network little, and processes that train side by side share caches, memory
and clock rate: how much of it is left, only a measurement tells. It makes real training steps of
the study's own, in forks of this process, for a second or two, and is remembered for this machine.
"""

import hashlib
import json
import multiprocessing
import os
import signal
import socket
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from multiprocessing.connection import Connection, wait
from pathlib import Path

import torch

from betanas.cores import available_cores, core_shares, pin
from betanas.devices.processes import die_with_parent
from betanas.devices.ranks import Ranks
from betanas.files import read_json, write_json
from betanas.launcher.rank import shared_images
from betanas.training.trainer import Training
from betanas.trial import TrialTask

PACE_FILE = "pace.json"  # in the cache folder
SECONDS = 1.5  # of each measurement
_LONGEST_SECONDS = 90.0  # that one may take with its first steps; then it is given up

_FORK = multiprocessing.get_context("fork")


class Pace:
    """Measures one task's training steps, each way once a machine.

    Args:
        task: What to train; of a study, for its figures only mean something there.
    """

    def __init__(self, task: TrialTask) -> None:
        self._task = task
        self._file = Path(task.cache) / PACE_FILE
        what = (task.architecture.to_json(), task.recipe.model_dump(), task.dataset.model_dump())
        named = hashlib.sha256(json.dumps(what, sort_keys=True).encode()).hexdigest()[:16]
        self._key = f"{socket.gethostname()}, {available_cores()} cores, {named}"

    def alone(self, share: int) -> float | None:
        """Images a second of one process on the machine's first ``share``-th part, 1 for all."""
        return self._remembered(f"alone on 1/{share}", core_shares(share)[:1])

    def together(self, workers: int) -> float | None:
        """Images a second of the slowest of so many that train at once, on a share each."""
        return self._remembered(f"{workers} at once", core_shares(workers))

    def _remembered(self, name: str, shares: Sequence[Sequence[int]]) -> float | None:
        """What was measured before, or now; None where it cannot be."""
        key = f"{self._key}: {name}"
        known: dict[str, float] = read_json(self._file) or {}
        if key not in known:
            found = _measure(self._task, shares)
            if not found:
                return None
            known = (read_json(self._file) or {}) | {key: min(found)}
            self._file.parent.mkdir(parents=True, exist_ok=True)
            write_json(self._file, known)
        return known[key]


def _measure(task: TrialTask, shares: Sequence[Sequence[int]]) -> list[float]:
    """Images a second of processes that train at once, one for each share of the cores.

    Returns:
        One figure each; none at all if one of them failed or did not come to an end.
    """
    shared_images(task.dataset, task.architecture.resolution, task.cache)  # before the forks
    barrier = _FORK.Barrier(len(shares))
    deadline = time.monotonic() + _LONGEST_SECONDS
    processes, waiting = [], []
    parent = os.getpid()
    with tempfile.TemporaryDirectory(prefix="betanas-pace-") as folder:
        for i, cores in enumerate(shares):
            answer, send = _FORK.Pipe(duplex=False)
            own = replace(task, folder=f"{folder}/{i}")
            process = _FORK.Process(target=_train, args=(own, cores, barrier, send, parent))
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
) -> None:
    """What each fork does."""
    os.setsid()  # Ctrl-C reaches the parent alone, which then ends this
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    die_with_parent(parent)
    pin(cores)
    torch.set_num_threads(available_cores())
    Path(task.folder).mkdir()
    images = shared_images(task.dataset, task.architecture.resolution, task.cache)
    with suppress(Exception):  # without an answer there is no measurement, and that is all
        training = Training(task, images, Ranks(0, 1, torch.device("cpu")), time.time())
        send.send(training.pace(SECONDS, barrier.wait))
