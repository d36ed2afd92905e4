"""Fault injection, shared by the tests and ``benchmarks/reliability.py``.

Workers are real processes of a real study on a real database; only their trainings are cheap: the
value is a function of the architecture, so that any two runs of a study can be compared.
"""

import multiprocessing
import os
import resource
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import optuna

from betanas import optimize
from betanas.data import describe_dataset
from betanas.optimize import Search, new_settings
from betanas.search import leases
from betanas.search.leases import Leases
from betanas.search.plan import sobol_phase
from betanas.search.storage import StoredStudy
from betanas.study.definition import StudyDefinition
from betanas.study.loading import load_study
from betanas.training.device import Devices
from betanas.training.launch import TrainerServer
from betanas.training.processes import die_with_parent
from betanas.trial import TrainingResult, TrialRecord, TrialTask

DEVICES = Devices("cpu", 1, 2**30)
_FORK = multiprocessing.get_context("fork")

STUDY = """
family = "betanet2"
resolution = 16
[parameters]
k = [1, 4]
[dataset]
name = "digits"
validation = 0.25
[budget]
steps = 1
[limits]
num_params = 300_000
memory_gib = 1
[search]
sobol_trials = 1000
min_feasible = 2
trials = 1000
"""


def cheap_value(task: TrialTask) -> float:
    """A number in (0, 1) that only depends on the architecture."""
    return (int(task.architecture.fingerprint[:8], 16) + 1) / 2**33


class CheapTrainer(TrainerServer):
    """Stands where the trainer server does, and spends a moment instead of a training."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds

    def run(
        self, task: TrialTask, on_progress: Callable[[dict[str, Any]], None] = lambda _: None
    ) -> TrainingResult:
        """Sleeps, and returns the architecture's own value."""
        deadline = time.monotonic() + self._seconds
        while time.monotonic() < deadline:
            on_progress({"spent": 0.5})
            time.sleep(0.005)
        return TrainingResult(value=cheap_value(task), steps=1, ranks=1)


class AcknowledgedLog:
    """A reporter that writes down, outside the database and synced, what was acknowledged."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def begins(self, definition: StudyDefinition, stored: StoredStudy, sobol: int) -> None:
        """Nothing to note."""

    def proposed(self, record: TrialRecord) -> None:
        """Nothing to note."""

    def progress(self, news: dict[str, Any]) -> None:
        """Nothing to note."""

    def recorded(self, record: TrialRecord) -> None:
        """One line a trial, on disk before the search goes on."""
        line = f"{record.number} {record.state} {record.value!r}\n"
        file = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.write(file, line.encode())
        os.fsync(file)
        os.close(file)


def write_definition(folder: Path, text: str = STUDY) -> StudyDefinition:
    """A study whose trials are cheap."""
    path = folder / "cheap.toml"
    path.write_text(text)
    return load_study(path)


def begun(definition: StudyDefinition, url: str) -> StoredStudy:
    """Opens the study, or begins it."""
    settings = new_settings(definition, describe_dataset(definition.dataset), DEVICES)
    return StoredStudy.begin(url, definition.name, settings)


def with_target(definition: StudyDefinition, url: str, points: int) -> StudyDefinition:
    """The study whose target is met when its first Sobol points are all done."""
    phase = sobol_phase(definition, begun(definition, url).settings)
    feasible = int(phase.feasibility.feasible(phase.points(0, points)).sum())
    search = definition.search.model_copy(update={"trials": feasible})
    return definition.model_copy(update={"search": search})


def work(
    definition: StudyDefinition, url: str, log: Path, seconds: float, more: int | None
) -> None:
    """What a worker process does: exactly ``betanas optimize`` but for its trainings."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    stored = begun(definition, url)
    folder = log.parent / "trials"
    Search(definition, stored, DEVICES, folder, AcknowledgedLog(log)).run(
        CheapTrainer(seconds), more
    )


def start_worker(
    definition: StudyDefinition,
    url: str,
    log: Path,
    *,
    seconds: float = 0.02,
    more: int | None = None,
    lease_seconds: float | None = None,
    prepare: Callable[[], None] = lambda: None,
) -> multiprocessing.process.BaseProcess:
    """Starts a worker; ``prepare`` runs in its process first (failpoints)."""

    def run() -> None:
        # Kills here strike at random and may meet one trial often: it is not its kernel's fault.
        optimize.MAX_ATTEMPTS = 1000
        if lease_seconds is not None:
            leases.LEASE_SECONDS = lease_seconds
        work(definition, url, log, seconds, more)

    return start_process(run, prepare=prepare)


def start_process(
    run: Callable[[], object], *, prepare: Callable[[], None] = lambda: None
) -> multiprocessing.process.BaseProcess:
    """Runs something in a fork of this process; ``prepare`` comes first (failpoints)."""

    parent = os.getpid()

    def prepared() -> None:
        os.setsid()
        die_with_parent(parent)
        prepare()
        run()

    process = _FORK.Process(target=prepared, daemon=True)
    process.start()
    return process


def kill(process: multiprocessing.process.BaseProcess) -> None:
    """kill -9, and waits for the end."""
    if process.pid is not None and process.is_alive():
        os.kill(process.pid, signal.SIGKILL)
    process.join()


def acknowledged(log: Path) -> list[tuple[int, str, float | None]]:
    """What the workers wrote down, in order."""
    rows = [line.split() for line in log.read_text().splitlines()] if log.exists() else []
    return [(int(n), s, None if v == "None" else float(v)) for n, s, v in rows]


def fail_at(owner: type, method: str, call: int, *, after: bool) -> Callable[[], None]:
    """A failpoint: the process is killed at the n-th call of a method, before or after it."""

    def prepare() -> None:
        original, calls = getattr(owner, method), [0]

        def killed(*args: Any, **kwargs: Any) -> Any:
            calls[0] += 1
            if calls[0] == call and not after:
                os.kill(os.getpid(), signal.SIGKILL)
            answer = original(*args, **kwargs)
            if calls[0] == call and after:
                os.kill(os.getpid(), signal.SIGKILL)
            return answer

        setattr(owner, method, killed)

    return prepare


def end_at_trial(number: int) -> Callable[[], None]:
    """A failpoint: the process is killed while it trains one trial."""

    def prepare() -> None:
        original = CheapTrainer.run

        def killed(self: CheapTrainer, task: TrialTask, *args: Any) -> TrainingResult:
            if task.number >= number:
                os.kill(os.getpid(), signal.SIGKILL)
            return original(self, task, *args)

        CheapTrainer.run = killed  # type: ignore[method-assign]

    return prepare


# Where a worker may die in a trial's life: a method, its how manyeth call, before or after it.
GAPS: list[tuple[type, str, int, bool]] = [
    (Leases, "claim", 2, False),
    (Leases, "claim", 2, True),
    (optuna.Trial, "suggest_float", 20, True),
    (StoredStudy, "describe", 2, False),
    (optuna.Trial, "set_user_attr", 7, True),
    (optuna.Study, "tell", 2, False),
    (optuna.Study, "tell", 2, True),
]


class PostgresServer:
    """A PostgreSQL server of our own on loopback; a context manager.

    Args:
        binaries: The folder of ``initdb`` and ``pg_ctl``.
    """

    def __init__(self, binaries: Path) -> None:
        self._binaries = binaries
        self._folder = Path(tempfile.mkdtemp(prefix="betanas-pg-"))
        self._data = self._folder / "data"
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        # PostgreSQL refuses to run as root.
        self._user = "postgres" if os.geteuid() == 0 else None
        if self._user:
            shutil.chown(self._folder, self._user)

    def __enter__(self) -> Self:
        self._run("initdb", "-D", self._data, "-U", "betanas", "-A", "trust", "--no-sync")
        self.start()
        self._run("createdb", "-h", "127.0.0.1", "-p", self.port, "-U", "betanas", "betanas")
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()
        shutil.rmtree(self._folder, ignore_errors=True)

    @property
    def url(self) -> str:
        """The database's SQLAlchemy URL."""
        return f"postgresql+psycopg://betanas@127.0.0.1:{self.port}/betanas"

    def start(self) -> None:
        """Starts the server, and waits until it answers."""
        options = f"-p {self.port} -c listen_addresses=127.0.0.1 -k {self._folder} -c fsync=off"
        self._run(
            "pg_ctl", "-D", self._data, "-o", options, "-l", self._folder / "log", "-w", "start"
        )

    def stop(self) -> None:
        """Stops it as a crash would: connections are cut."""
        self._run("pg_ctl", "-D", self._data, "-m", "immediate", "-w", "stop")

    def _run(self, program: str, *arguments: object) -> None:
        command = [str(self._binaries / program), *map(str, arguments)]
        done = subprocess.run(
            command, user=self._user, cwd=self._folder, capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise RuntimeError(f"{program}: {done.stdout}{done.stderr}")


def find_postgres() -> Path | None:
    """The folder of the system's PostgreSQL binaries, if it has them."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    on_path = shutil.which("initdb")
    return found[-1].parent if found else Path(on_path).parent if on_path else None


@contextmanager
def full_disk(folder: Path, free_bytes: int) -> Iterator[Callable[[], None]]:
    """A folder on a disk of so many bytes; where nobody may mount one, files are cut at a size.

    Yields:
        What a process that shall meet the full disk calls first.
    """
    size = f"size={free_bytes}"
    command = ["mount", "-t", "tmpfs", "-o", size, "tmpfs", str(folder)]
    mounted = os.geteuid() == 0 and not subprocess.run(command, check=False).returncode
    if mounted:
        try:
            yield lambda: None
        finally:
            subprocess.run(["umount", "--lazy", str(folder)], check=True)
        return

    def limit() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        most = free_bytes % 200_000
        resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))

    yield limit


@contextmanager
def locked_sqlite(path: Path, seconds: float) -> Iterator[None]:
    """Holds an SQLite file's write lock from another process."""

    def hold() -> None:
        import sqlite3

        connection = sqlite3.connect(path, timeout=60)
        connection.execute("BEGIN EXCLUSIVE")
        time.sleep(seconds)
        connection.rollback()

    process = _FORK.Process(target=hold)
    process.start()
    try:
        yield
    finally:
        process.join()
