"""How many images a second a network trains on: on some cores, alone and beside others.

Threads bring a small network little, and processes that train side by side share caches, memory
and clock rate: how much of it is left, only a measurement tells. It makes real training steps of
the study's own, in a trainer server, for a second or two, and is remembered for this machine.
"""

import hashlib
import json
import socket
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from betanas.cores import available_cores, core_shares
from betanas.errors import BetaNASError
from betanas.files import read_json, write_json
from betanas.launcher.client import TrainerServer
from betanas.trial import TrialTask

PACE_FILE = "pace.json"  # in the cache folder


class Pace:
    """Measures one task's training steps, each way once a machine; a context manager.

    Args:
        task: What to train; of a study, for its figures only mean something there.
        seconds: Of each measurement.
        longest: Seconds that one may take with its first steps; then it is given up.
    """

    def __init__(self, task: TrialTask, seconds: float = 1.5, longest: float = 90.0) -> None:
        self._task, self._seconds, self._longest = task, seconds, longest
        self._server: TrainerServer | None = None
        self._file = Path(task.cache) / PACE_FILE
        what = (task.architecture.to_json(), task.recipe.model_dump(), task.dataset.model_dump())
        named = hashlib.sha256(json.dumps(what, sort_keys=True).encode()).hexdigest()[:16]
        self._key = f"{socket.gethostname()}, {available_cores()} cores, {named}"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None

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
            found = self._measured(shares)
            if not found:
                return None
            known = (read_json(self._file) or {}) | {key: min(found)}
            self._file.parent.mkdir(parents=True, exist_ok=True)
            write_json(self._file, known)
        return known[key]

    def _measured(self, shares: Sequence[Sequence[int]]) -> list[float]:
        task = self._task
        try:
            if self._server is None:
                resolution = task.architecture.resolution
                self._server = TrainerServer(task.dataset, resolution, Path(task.cache))
            return self._server.pace(task, shares, self._seconds, self._longest)
        except BetaNASError:  # the trainings will say what is wrong
            return []
