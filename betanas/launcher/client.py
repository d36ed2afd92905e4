"""The controller's side of a training: start it, follow it, end it, and always get a result."""

import json
import os
import select
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

from betanas.cores import available_cores
from betanas.devices.claims import claimed_gpus
from betanas.errors import DataError, RunError
from betanas.files import TEMPORARY, is_full, read_json, write_json, write_whole
from betanas.launcher.rendezvous import Rendezvous
from betanas.study.recipe import DatasetConfig
from betanas.training.heartbeat import HungRank
from betanas.training.progress import NewsReader
from betanas.trial import (
    LOG_FILE,
    RESULT_FILE,
    STOP_FILE,
    TASK_FILE,
    Failure,
    TrainingResult,
    TrialTask,
    training_of,
)

_POLL_SECONDS = 0.1
_SILENT_SECONDS = 5.0
# A lost rank of an elastic training is silent until another is in its place; on several machines
# that may take as long as torch lets them wait for each other, 600 s.
_RESTART_SECONDS, _MEETING_SECONDS = 300.0, 900.0
_ROOM_FILE, _ROOM_BYTES = f"room{TEMPORARY}", 2**16  # what a few results and stories take
_SECRETS = ("BETANAS_STORAGE", "BETANAS_TOKEN")  # the controller's alone


class TrainerServer:
    """A running trainer server (see ``server.py``); a context manager that ends it.

    Args:
        dataset: What its trials train on.
        resolution: Input side of the networks in pixels.
        cache: Where decoded images are kept.
        keeps_spare: Whether trainings follow each other, and the next one's processes are to wait.

    The server starts at once and gets ready while the caller goes on; see ``wait``.
    """

    def __init__(
        self, dataset: DatasetConfig, resolution: int, cache: Path, *, keeps_spare: bool = True
    ) -> None:
        self._keeps_spare = keeps_spare
        self._prepare = {
            "do": "prepare",
            "dataset": dataset.model_dump(mode="json"),
            "resolution": resolution,
            "cache": str(cache),
        }
        self._process: subprocess.Popen[str] | None = None
        self._ready = False
        self._start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Ends the server and with it all that it started."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def wait(self) -> None:
        """Waits until torch is imported and the images are decoded.

        Raises:
            DataError: If the images cannot be loaded.
            RunError: If the server ends instead.
        """
        if self._ready:
            return
        answer = self._answer(None)
        if answer is None:
            raise RunError("the trainer process ended while it loaded the images; see above")
        if "error" in answer:
            raise DataError(answer["error"])
        self._ready = True

    def revive(self) -> None:
        """Starts the server again if it has ended."""
        if self._process is None or self._process.poll() is not None:
            self._start()

    def run(
        self,
        task: TrialTask,
        on_progress: Callable[[dict[str, Any]], None] = lambda _: None,
        rendezvous: Rendezvous | None = None,
        trouble: Callable[[], str | None] = lambda: None,
    ) -> TrainingResult:
        """Trains one task in fresh processes; returns a result whatever happens to them.

        Args:
            task: What to train; a training of the same task that was interrupted goes on from its
                last checkpoint, and anything else in its folder is removed.
            on_progress: Called with each line of news (``spent``, ``epoch``, ``best``, ...), and
                every few seconds with nothing.
            rendezvous: Where this node meets the others of ``task.nnodes``; None for one node.
            trouble: Asked again and again; says, in words, when another node is lost.

        Raises:
            DataError: If the images cannot be loaded.
            RunError: If not even the server can be started.
            OSError: If the training's folder has no room left.
        """
        folder = Path(task.folder)
        _clear(folder, task)
        write_json(folder / TASK_FILE, task.to_json())
        self.revive()
        self.wait()
        launched = time.time()
        meeting = (rendezvous or Rendezvous()).to_json()
        request = {"task": str(folder / TASK_FILE), "launched": launched, "rendezvous": meeting}
        request["keeps_spare"] = self._keeps_spare
        self._send({"do": "train", **request})
        try:
            hung = HungRank(folder, _borne_seconds(task, rendezvous))
            result = self._follow(folder, hung, trouble, on_progress)
        except BaseException:
            self.close()
            raise
        if result.value is None and not result.stopped:
            return replace(result, other_seconds=time.time() - launched)
        after = max(0.0, time.time() - (folder / RESULT_FILE).stat().st_mtime)
        return replace(result, other_seconds=result.other_seconds + after)

    def pace(
        self, task: TrialTask, shares: Sequence[Sequence[int]], seconds: float, longest: float
    ) -> list[float]:
        """Images a second of processes that train at once, as ``measuring.measure`` has it.

        Raises:
            DataError: If the images cannot be loaded.
            RunError: If the server has ended.
        """
        self.wait()
        asked = {"task": task.to_json(), "shares": shares, "seconds": seconds, "longest": longest}
        self._send({"do": "pace", **asked})
        answer = self._answer(None) or {}
        found: list[float] = answer.get("images_per_second", [])
        return found

    def _start(self) -> None:
        environment = {
            # Spinning threads make steps 20 times slower as soon as a core has other work too.
            "OMP_WAIT_POLICY": "PASSIVE",
            "THP_MEM_ALLOC_ENABLE": "1",  # huge pages: fewer page faults, faster steps (Linux)
            "OMP_NUM_THREADS": str(available_cores()),  # quiets torchrun; ranks set their own
            # Looking for GPUs must not start CUDA in a process that is to be forked.
            "PYTORCH_NVML_BASED_CUDA_CHECK": "1",
            "PYTHONWARNINGS": "ignore",
            **{name: value for name, value in os.environ.items() if name not in _SECRETS},
            **claimed_gpus(),
            "BETANAS_CONTROLLER_PID": str(os.getpid()),
        }
        self._process = subprocess.Popen(
            [sys.executable, "-m", "betanas.launcher.server"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=environment,
            text=True,
            start_new_session=True,  # Ctrl-C reaches the controller alone, which then decides
        )
        self._ready = False
        self._send(self._prepare)

    def _running(self) -> tuple[IO[str], IO[str]]:
        """The server's requests and answers."""
        process = self._process
        if process is None or process.stdin is None or process.stdout is None:
            raise RunError("the trainer server is closed")
        return process.stdin, process.stdout

    def _send(self, request: dict[str, Any]) -> None:
        requests = self._running()[0]
        try:
            requests.write(json.dumps(request) + "\n")
            requests.flush()
        except BrokenPipeError:
            raise RunError("the trainer server has ended") from None

    def _answer(self, timeout: float | None) -> dict[str, Any] | None:
        """The next answer; None if the server has ended. Raises TimeoutError."""
        answers = self._running()[1]
        ready, _, _ = select.select([answers], [], [], timeout)
        if not ready:
            raise TimeoutError
        line = answers.readline()
        return json.loads(line) if line else None

    def _follow(
        self,
        folder: Path,
        hung: HungRank,
        trouble: Callable[[], str | None],
        on_progress: Callable[[dict[str, Any]], None],
    ) -> TrainingResult:
        news, told = NewsReader(folder), time.monotonic()
        while True:
            try:
                answer = self._answer(_POLL_SECONDS)
            except TimeoutError:
                for line in news.read():
                    on_progress(line)
                if time.monotonic() - told > _SILENT_SECONDS:
                    told = time.monotonic()
                    on_progress({})  # ranks that evaluate tell nothing, and the claim is to last
                if (message := hung.message()) is not None:
                    self.close()
                    return TrainingResult(None, Failure.TIMED_OUT, message)
                if (message := trouble()) is not None:
                    self.close()
                    return _written(folder) or TrainingResult(None, Failure.NODE_LOST, message)
                continue
            for line in news.read():
                on_progress(line)
            if answer is None:
                self.close()  # it may still be on its way out; the next trial starts a new one
            written = _written(folder)
            if written is not None:
                return written
            _check_room(folder)  # a full disk may have kept all of them from saying so
            how = f"exit code {answer['exit']}" if answer else "the trainer server"
            return TrainingResult(
                None, Failure.CRASHED, f"the launcher ended with {how}: {_tail(folder / LOG_FILE)}"
            )


def _check_room(folder: Path) -> None:
    """Raises OSError if the disk is full."""
    try:
        write_whole(folder / _ROOM_FILE, bytes(_ROOM_BYTES)).unlink()
    except OSError as error:
        if is_full(error):
            raise


def _borne_seconds(task: TrialTask, rendezvous: Rendezvous | None) -> float:
    """How long the ranks may be silent."""
    if not task.is_elastic:
        return task.stall_seconds
    several = rendezvous is not None and rendezvous.nnodes[1] > 1
    return max(task.stall_seconds, _MEETING_SECONDS if several else _RESTART_SECONDS)


def _written(folder: Path) -> TrainingResult | None:
    """The result that the ranks or their agent left, if they did."""
    written = read_json(folder / RESULT_FILE)
    return None if written is None else TrainingResult.from_json(written)


def _clear(folder: Path, task: TrialTask) -> None:
    """Empties a trial's folder of all but the same task's checkpoints and log."""
    told = read_json(folder / TASK_FILE)
    if told is None or training_of(told) != json.loads(json.dumps(task.identity)):
        shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True, exist_ok=True)
    for pattern in ("*.json", "*.jsonl", "*.beat", "*.tmp", "*.pid", STOP_FILE):
        for path in folder.glob(pattern):
            if path.name != TASK_FILE:  # whoever is killed here must find its checkpoints again
                path.unlink(missing_ok=True)


def _tail(log: Path) -> str:
    lines = log.read_text(errors="replace").splitlines() if log.exists() else []
    told = [line.strip() for line in lines if line.strip()]
    return told[-1] if told else "it left no log"
