"""Fault injection, shared by the tests and ``benchmarks/reliability.py``.

Workers are real processes of a real study on a real database; only their trainings are cheap: the
value is a function of the architecture, so that any two runs of a study can be compared.
"""

import multiprocessing
import os
import random
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
from types import SimpleNamespace, TracebackType
from typing import Any, Self

import optuna
from sqlalchemy.engine.default import DefaultDialect

from betanas.data import describe_dataset
from betanas.database import leases
from betanas.database.leases import Leases
from betanas.database.settings import new_settings
from betanas.database.stored import ClaimedTrial, StoredStudy
from betanas.devices.find import Devices
from betanas.devices.processes import die_with_parent
from betanas.jobs import trials
from betanas.jobs.optimize import Search
from betanas.launcher.client import TrainerServer
from betanas.search.plan import study_problem
from betanas.study.definition import StudyDefinition
from betanas.study.loading import load_definition
from betanas.trial import TrainingResult, TrialRecord, TrialTask

DEVICES = Devices("cpu", 1, 2**30)
_FORK = multiprocessing.get_context("fork")
_FRESH = multiprocessing.get_context("forkserver")

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


class TellingTrainer(CheapTrainer):
    """One whose trainings tell how they go, and come to an end where they are told to."""

    def run(
        self, task: TrialTask, on_progress: Callable[[dict[str, Any]], None] = lambda _: None
    ) -> TrainingResult:
        """Tells a pace and accuracies that foretell the architecture's own value, give or take."""
        value = cheap_value(task)
        off = int(task.architecture.fingerprint[8:16], 16) / 2**32 - 0.5
        for spent in (0.1, 0.25, 0.5, 0.75):
            news = {"spent": spent, "epoch": spent * (1 + value + off)}
            if spent > 0.1:
                accuracy = spent * (value + off / 2)
                news |= {"accuracy": accuracy, "best": accuracy}
            on_progress(news)
            if task.is_stopped:
                return TrainingResult(value=None, stopped=True, steps=1, ranks=1)
        return super().run(task, on_progress)


def make_trainer(definition: StudyDefinition, seconds: float) -> CheapTrainer:
    """What stands where the trainer server does: it tells something where a pruner listens."""
    listens = definition.search.pruner != "none"
    return (TellingTrainer if listens else CheapTrainer)(seconds)


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
    return load_definition(path)


def begun(definition: StudyDefinition, url: str) -> StoredStudy:
    """Opens the study, or begins it."""
    settings = new_settings(definition, describe_dataset(definition.dataset), DEVICES)
    return StoredStudy.begin(url, definition.name, settings)


def with_target(definition: StudyDefinition, url: str, points: int) -> StudyDefinition:
    """The study whose target is met when its first Sobol points are all done."""
    problem = study_problem(definition, begun(definition, url).settings)
    feasible = int(problem.rules.feasibility.feasible(problem.sobol_points(0, points)).sum())
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
        make_trainer(definition, seconds), more
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
        trials.MAX_ATTEMPTS = 1000
        if lease_seconds is not None:
            leases.LEASE_SECONDS = lease_seconds
        work(definition, url, log, seconds, more)

    return start_process(run, prepare=prepare)


def start_process(
    run: Callable[[], object],
    *,
    prepare: Callable[[], None] = lambda: None,
    daemon: bool = True,
) -> multiprocessing.process.BaseProcess:
    """Runs something in a fork of this process; ``prepare`` comes first (failpoints).

    What has processes of its own is no ``daemon``.
    """

    parent = os.getpid()

    def prepared() -> None:
        os.setsid()
        die_with_parent(parent)
        prepare()
        run()

    process = _FORK.Process(target=prepared, daemon=daemon)
    process.start()
    return process


def start_fresh_process(
    function: Callable[..., object], *args: Any
) -> multiprocessing.process.BaseProcess:
    """Calls a module's function in a process that inherits nothing of this one.

    What computes gradients needs that: once a test has exported a graph, torch refuses them in
    forks of its process.
    """
    process = _FRESH.Process(target=function, args=args, daemon=True)
    process.start()
    return process


def wait_until_frozen(process: multiprocessing.process.BaseProcess) -> bool:
    """Waits for a process that stops itself; False if it ended instead."""
    stat = Path(f"/proc/{process.pid}/stat")
    while process.is_alive():
        if stat.read_text().rpartition(")")[2].split()[0] == "T":
            return True
        time.sleep(0.01)
    return False


def kill(process: multiprocessing.process.BaseProcess) -> None:
    """kill -9, and waits for the end."""
    if process.pid is not None and process.is_alive():
        os.kill(process.pid, signal.SIGKILL)
    process.join()


def acknowledged(log: Path) -> list[tuple[int, str, float | None]]:
    """What the workers wrote down, in order."""
    rows = [line.split() for line in log.read_text().splitlines()] if log.exists() else []
    return [(int(n), s, None if v == "None" else float(v)) for n, s, v in rows]


def fail_at(
    owner: type, method: str, call: int, *, after: bool, strike: signal.Signals = signal.SIGKILL
) -> Callable[[], None]:
    """A failpoint: a signal strikes the process at a method's n-th call, before or after it."""

    def prepare() -> None:
        original, calls = getattr(owner, method), [0]

        def killed(*args: Any, **kwargs: Any) -> Any:
            calls[0] += 1
            struck = calls[0] == call
            if struck and not after:
                os.kill(os.getpid(), strike)
            answer = original(*args, **kwargs)
            if struck and after:
                os.kill(os.getpid(), strike)
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
    (StoredStudy, "put_kernel", 2, True),
    (StoredStudy, "describe", 2, True),
    (StoredStudy, "_end", 2, False),
    (StoredStudy, "_end", 2, True),
]


def fail_at_commit(
    call: int, *, after: bool, strike: signal.Signals = signal.SIGKILL
) -> Callable[[], None]:
    """A failpoint: a signal strikes at the n-th commit since the worker's second claim began."""

    def prepare() -> None:
        claim, claims = StoredStudy.claim, [0]

        def armed(self: StoredStudy) -> ClaimedTrial:
            claims[0] += 1
            if claims[0] == 2:
                fail_at(DefaultDialect, "do_commit", call, after=after, strike=strike)()
            return claim(self)

        StoredStudy.claim = armed  # type: ignore[method-assign]

    return prepare


def jumping_clock(seed: int) -> Callable[[], None]:
    """A machine whose time of day jumps by up to two hours, back and forth, at every look."""

    def prepare() -> None:
        rng, now = random.Random(seed), time.time
        leases.time = SimpleNamespace(time=lambda: now() + rng.uniform(-7200, 7200))  # type: ignore[assignment]

    return prepare


class PostgresServer:
    """A PostgreSQL server of our own on loopback; a context manager.

    Args:
        binaries: The folder of ``initdb`` and ``pg_ctl``.
        durable: Whether commits are synced to disk, as in use; only power failures tell.
    """

    def __init__(self, binaries: Path, *, durable: bool = False) -> None:
        self._binaries = binaries
        self._fsync = "on" if durable else "off"
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
        options = (
            f"-p {self.port} -c listen_addresses=127.0.0.1 -k {self._folder} -c fsync={self._fsync}"
        )
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
