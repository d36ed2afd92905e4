"""Promises that processes and files keep: no orphans, no torn checkpoint, no lost training."""

import os
import random
import signal
import subprocess
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import torch
from command import TINY, descendants, is_alive, start, write_study
from faults import full_disk, kill, start_process
from survival_database import Row
from trainings import ranks_of, small_task

from betanas.launcher.client import TrainerServer
from betanas.training.checkpoint import read_checkpoint, write_checkpoint
from betanas.trial import TrialTask

_LONG = TINY.replace("steps = 4", "seconds = 600")
_VICTIMS = ("controller", "server", "launcher", "rank")
_GONE_SECONDS = 10.0


def orphans(folder: Path, number: int) -> Row:
    """Kill -9 of one process of a search with two ranks; what was below it must end."""
    rng, failures, slowest = random.Random(5), 0, 0.0
    for i in range(number):
        place = folder / str(i)
        place.mkdir()
        write_study(place, text=_LONG)
        search = start(place, "optimize", "--study", "tiny.toml", "--nproc-per-node", "2")
        kind = _VICTIMS[i % len(_VICTIMS)]
        try:
            pids = _wait_for_ranks(place, search)
            time.sleep(rng.uniform(0.0, 1.0))
            victim = pids[kind]
            below = descendants(pids["launcher"]) if kind == "rank" else descendants(victim)
            os.kill(victim, signal.SIGKILL)
            slowest = max(slowest, gone := _seconds_until_gone(below))
            failures += gone > _GONE_SECONDS
        finally:
            rest = descendants(search.pid)
            search.kill()
            search.communicate()
            failures += _seconds_until_gone(rest) > _GONE_SECONDS
    return Row("no process outlives a killed one", number, failures, f"all gone in {slowest:.1f} s")


def _wait_for_ranks(place: Path, search: subprocess.Popen[str]) -> dict[str, int]:
    """The processes of a search, once its ranks train."""
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        beats = list(place.glob("storage/tiny/*/rank-*.beat"))
        files = list(place.glob("storage/tiny/*/agent.pid"))
        if len(beats) == 2 and files and (text := files[0].read_text()):
            ranks = descendants(int(text))
            servers = [p for p in descendants(search.pid) if int(text) in descendants(p)]
            if len(ranks) >= 2 and servers:
                found = {"controller": search.pid, "server": servers[0]}
                return found | {"launcher": int(text), "rank": ranks[-1]}
        time.sleep(0.05)
    raise RuntimeError(f"no ranks within two minutes in {place}")


def _seconds_until_gone(pids: list[int]) -> float:
    began = time.monotonic()
    while any(map(is_alive, pids)) and time.monotonic() - began <= _GONE_SECONDS:
        time.sleep(0.02)
    return time.monotonic() - began


def checkpoints(folder: Path, number: int) -> Row:
    """Kill -9 while checkpoints are saved one after the other."""
    rng, failures, torn = random.Random(6), 0, 0
    for i in range(number):
        place = folder / str(i)
        place.mkdir()
        writer = start_process(lambda place=place: _save_for_ever(place))
        while not (place / "saved").exists() and writer.is_alive():
            time.sleep(0.001)
        time.sleep(rng.uniform(0.0, 0.05))
        kill(writer)
        torn += bool(list(place.glob("*.tmp")))
        failures += not _loads(place)
    return Row("kills during a save leave a checkpoint", number, failures, f"{torn} in mid-write")


def full(folder: Path, number: int) -> Row:
    """The disk (a small tmpfs; else a limit on a file's size) is full at a random byte."""
    rng, failures = random.Random(7), 0
    for i in range(number):
        place = folder / str(i)
        place.mkdir()
        with full_disk(place, free_bytes=rng.randrange(250_000, 560_000)) as limit:
            writer = start_process(lambda place=place: _save_for_ever(place), prepare=limit)
            writer.join(60)
            kill(writer)
            failures += writer.exitcode != 1 or not _loads(place)  # 1: it raised, as it should
    return Row("a full disk leaves a checkpoint", number, failures)


def _save_for_ever(place: Path) -> None:
    """Saves checkpoints of 200 kB; a synced file tells the last one that was whole."""
    torch.set_num_threads(1)
    file = os.open(place / "saved", os.O_WRONLY | os.O_CREAT)
    os.pwrite(file, b"%08d" % -1, 0)
    step = 0
    while True:
        write_checkpoint(place, {"steps": step, "weights": torch.full((50_000,), float(step))})
        os.pwrite(file, b"%08d" % step, 0)
        os.fsync(file)
        step += 1


def _loads(place: Path) -> bool:
    """Whether the last checkpoint, or the one that was being written, loads and is whole."""
    saved = int((place / "saved").read_text() or -1) if (place / "saved").exists() else -1
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        state = read_checkpoint(place)
    if state is None:
        return saved < 0
    whole = bool((state["weights"] == float(state["steps"])).all())
    return whole and state["steps"] in (saved, saved + 1)


def elastic(folder: Path, number: int) -> Row:
    """Kill -9 of a random one of three ranks, again and again, half of them at a dynamic batch."""
    kills, failures, gaps = 0, 0, list[float]()
    for mode, share in (("fixed-batch", (number + 1) // 2), ("dynamic", number // 2)):
        steps, images = 20 * share, 48 if mode == "fixed-batch" else 3 * 48
        task = small_task(
            folder,
            mode,
            budget={"steps": steps},
            recipe={"elastic": mode, "batch_size": 48},
            ranks=3,
            checkpoint_seconds=0.1,
        )
        striking = _Striking(task, share)
        with TrainerServer(task.dataset, task.architecture.resolution, folder) as server:
            result = server.run(task, striking)
        kills += striking.kills
        gaps += striking.gaps
        failures += result.failure is not None or result.images != steps * images
    note = f"seconds from a kill to a step: median {median(gaps):.1f}, at most {max(gaps):.1f}"
    return Row("an elastic training survives its ranks, every image counted", kills, failures, note)


class _Striking:
    """Kills a rank at a random moment of each life of a training."""

    def __init__(self, task: TrialTask, kills: int) -> None:
        self._task, self._most, self._rng = task, kills, random.Random(7)
        self._struck: float | None = None
        self._meets = False
        self.kills, self.gaps = 0, list[float]()

    def __call__(self, news: dict[str, Any]) -> None:
        self._meets = self._meets or "ranks" in news
        if "spent" not in news or not self._meets:
            return
        if self._struck is not None:
            self.gaps.append(time.monotonic() - self._struck)
            self._struck = None
        if self.kills < self._most:
            time.sleep(self._rng.uniform(0.0, 0.5))
            ranks = ranks_of(self._task.folder)
            if len(ranks) == 3:
                self._meets, self._struck = False, time.monotonic()
                self.kills += 1
                os.kill(ranks[self._rng.randrange(3)], signal.SIGKILL)


PROCESSES: dict[str, tuple[int, Callable[[Path, int], Row]]] = {
    "orphans": (100, orphans),
    "checkpoints": (500, checkpoints),
    "full": (100, full),
    "elastic": (20, elastic),
}
