"""Workers of a study in processes of their own, told what to do one call at a time."""

import multiprocessing
import os
import random
import signal
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any, Self

from optuna.distributions import FloatDistribution

from betanas.database.settings import Settings
from betanas.database.stored import ClaimedTrial, StoredStudy
from betanas.trial import TrainingResult

NAME = "mine"
SPACE = {"k": FloatDistribution(2.0, 10.0), "K": FloatDistribution(2.0, 5.0)}
SETTINGS = Settings(
    meaning={"family": "betanet2", "resolution": 32, "parameters.k": [2.0, 10.0]},
    classes=("cat", "dog"),
    dataset_fingerprint="digits",
    memory_bytes=2**30,
    scaled_memory_bytes=None,
)

_PROCESSES = multiprocessing.get_context("forkserver")
# What every worker would import, once for all of them.
_PROCESSES.set_forkserver_preload(
    ["betanas.database.stored", "alembic.command", "optuna.storages._rdb.models"]
)


def recorded_kernel(stored: StoredStudy, claimed: ClaimedTrial) -> dict[str, float]:
    """The trial's kernel: what is recorded, or a random one, which then is."""
    known = dict(stored.kernel(claimed, SPACE))
    if not known:
        rng = random.Random(claimed.number)
        known = {name: rng.uniform(d.low, d.high) for name, d in SPACE.items()}
        stored.put_kernel(claimed, known, SPACE, {})
    return known


@dataclass(frozen=True)
class Held:
    """What a worker says of the trial that it claimed."""

    number: int
    attempts: int
    token: int

    @classmethod
    def of(cls, claimed: ClaimedTrial) -> Self:
        return cls(claimed.number, claimed.lease.attempts, claimed.lease.token)


class RemoteWorker:
    """A worker process; a context manager that ends it.

    Args:
        url: The database, which may be new.
    """

    def __init__(self, url: str) -> None:
        self._pipe, there = _PROCESSES.Pipe()
        self._process = _PROCESSES.Process(target=_serve, args=(url, there), daemon=True)
        self._process.start()
        there.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.signal(signal.SIGKILL)

    def __call__(self, method: str, *arguments: Any) -> Any:
        """Calls one of ``_CALLS`` over there, and waits for the answer."""
        self.start(method, *arguments)
        return self.answer()

    def start(self, method: str, *arguments: Any) -> None:
        """Calls without waiting."""
        self._pipe.send((method, arguments))

    def answer(self) -> Any:
        """What the call that was started returns."""
        if not self._pipe.poll(60):
            raise TimeoutError("no answer")
        return self._pipe.recv()

    def signal(self, number: signal.Signals) -> None:
        """Sends a signal; waits for the end if it is a deadly one."""
        if self._process.is_alive():
            os.kill(self._process.pid or 0, number)
        if number in (signal.SIGKILL, signal.SIGINT):
            self._process.join(60)


def _serve(url: str, pipe: Connection) -> None:
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    worker = _Worker(StoredStudy.begin(url, NAME, SETTINGS))
    try:
        while True:
            method, arguments = pipe.recv()
            pipe.send(getattr(worker, method)(*arguments))
    except KeyboardInterrupt:
        worker.release()


class _Worker:
    """What a remote worker can be asked for."""

    def __init__(self, stored: StoredStudy) -> None:
        self._stored = stored
        self._claimed: ClaimedTrial | None = None

    @property
    def _held(self) -> ClaimedTrial:
        assert self._claimed is not None
        return self._claimed

    def claim(self) -> Held:
        self._claimed = self._stored.claim()
        return Held.of(self._claimed)

    def kernel(self) -> dict[str, float]:
        return recorded_kernel(self._stored, self._held)

    def count_attempt(self) -> Held:
        self._claimed = self._stored.count_attempt(self._held)
        return Held.of(self._claimed)

    def finish(self, value: float) -> bool:
        return self._stored.finish(self._held, TrainingResult(value=value, steps=3))

    def reject(self, reason: str) -> None:
        self._stored.reject(self._held, reason)

    def release(self) -> None:
        self._stored.release(self._held)

    def work(self, trials: int) -> list[int]:
        """Claims and finishes so many trials, one after the other."""
        numbers = []
        for _ in range(trials):
            held = self.claim()
            self.kernel()
            assert self.finish(1.0 / (1 + held.number))
            numbers.append(held.number)
        return numbers

    def records(self) -> list[tuple[int, str, float | None]]:
        return [(r.number, r.state, r.value) for r in self._stored.records()]


def at_once(workers: list[RemoteWorker], method: str, *arguments: Any) -> list[Any]:
    """Calls all workers before waiting for any."""
    for worker in workers:
        worker.start(method, *arguments)
    return [worker.answer() for worker in workers]


StartWorker = Callable[[], RemoteWorker]
