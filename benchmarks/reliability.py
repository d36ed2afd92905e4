"""What survives what: kills, freezes, restarts, locks; one table with counts and 95 % bounds.

    .venv/bin/python benchmarks/reliability.py            # all promises, about half an hour
    .venv/bin/python benchmarks/reliability.py --share 0.1 --only kills,outage

Workers are ``betanas optimize`` but for their trainings, which take a moment and whose value is a
function of the architecture. The faults are those of the tests (``tests/faults.py``). A failure is
a trial lost, told twice, changed after it was acknowledged, or left running; the bound is the exact
(Clopper-Pearson) one-sided 95 % limit of the failure rate.
"""

import argparse
import os
import random
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import optuna
from rich.console import Console
from rich.table import Table
from scipy.stats import beta

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from faults import (
    STUDY,
    PostgresServer,
    acknowledged,
    begun,
    find_postgres,
    kill,
    locked_sqlite,
    start_worker,
    with_target,
    write_definition,
)

from betanas.search.plan import sobol_phase
from betanas.search.storage import StoredStudy
from betanas.study.definition import StudyDefinition

Row = tuple[str, int, int]


def wrong_trials(definition: StudyDefinition, url: str, log: Path, points: int) -> int:
    """Counts trials that were lost, told twice, changed, misplaced or left running."""
    stored = StoredStudy.load(url, definition.name)
    records = stored.records()
    phase = sobol_phase(definition, stored.settings)
    wrong = max(0, points - len(records))
    for record, point in zip(records, phase.points(0, len(records)), strict=True):
        kernel = phase.space.kernel(point)
        wrong += record.state not in ("complete", "pruned") or record.parameters != kernel
    told = acknowledged(log)
    wrong += sum(n - 1 for n in Counter(number for number, _, _ in told).values())
    wrong += sum((records[n].state, records[n].value) != (s, v) for n, s, v in told)
    return wrong


def kills(url: str, folder: Path, number: int) -> Row:
    """Kill -9 of the one worker at random moments."""
    definition, log = write_definition(folder), folder / "log"
    begun(definition, url)
    rng = random.Random(1)
    for _ in range(number):
        worker = start_worker(definition, url, log)
        time.sleep(rng.uniform(0.1, 1.5))
        kill(worker)
    finish(definition, url, log)
    return "nothing acknowledged is lost", number, wrong_trials(definition, url, log, 1)


def workers(url: str, folder: Path, number: int) -> Row:
    """Eight workers, killed and replaced, on so many Sobol points."""
    definition, log = with_target(write_definition(folder), url, number), folder / "log"
    rng = random.Random(2)
    team = [start_worker(definition, url, log) for _ in range(8)]
    while any(w.is_alive() for w in team) and rng.random() > 1 / (number + 1):
        time.sleep(rng.uniform(0.1, 0.5))
        i = rng.randrange(len(team))
        if team[i].is_alive():
            kill(team[i])
            team[i] = start_worker(definition, url, log)
    for worker in team:
        worker.join(600)
    finish(definition, url, log)
    return "every Sobol point once", number, wrong_trials(definition, url, log, number)


def fencing(url: str, folder: Path, number: int) -> Row:
    """A worker is frozen past its lease, its trial taken over, then it thaws."""
    failures = 0
    unlimited = STUDY.replace("num_params = 300_000", "")  # every trial trains
    definition, log = write_definition(folder, unlimited), folder / "log"
    stored = begun(definition, url)
    for _ in range(number):
        worker = start_worker(definition, url, log, seconds=0.6, more=1, lease_seconds=0.5)
        held = wait_for_training(stored)
        if held is None or worker.pid is None:
            worker.join()
            continue
        os.kill(worker.pid, signal.SIGSTOP)
        time.sleep(0.6)
        start_worker(definition, url, log, more=1).join(60)
        taken = stored.record(held)
        os.kill(worker.pid, signal.SIGCONT)
        worker.join(60)
        failures += taken.state != "complete" or stored.record(held) != taken
        failures += worker.exitcode != 0
    return "a late write is refused", number, failures


def wait_for_training(stored: StoredStudy) -> int | None:
    """The number of the trial that trains now; None if none does within ten seconds."""
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        running = [r for r in stored.records() if r.state == "running" and r.fingerprint]
        if running:
            time.sleep(0.1)
            return running[0].number
        time.sleep(0.02)
    return None


def outage(server: PostgresServer, folder: Path, number: int) -> Row:
    """The server stops as in a crash, and comes back."""
    definition, log = write_definition(folder), folder / "log"
    begun(definition, server.url)
    worker = start_worker(definition, server.url, log)
    while not acknowledged(log):  # a database that is away at the start is a wrong call
        time.sleep(0.1)
    rng = random.Random(3)
    for _ in range(number):
        time.sleep(rng.uniform(0.2, 1.0))
        server.stop()
        time.sleep(rng.uniform(0.0, 0.5))
        server.start()
    ended = not worker.is_alive()
    kill(worker)
    finish(definition, server.url, log)
    return "restarts end no search", number, ended + wrong_trials(definition, server.url, log, 1)


def lock(url: str, folder: Path, number: int) -> Row:
    """Another process holds the file's write lock for so many seconds."""
    definition, log = write_definition(folder), folder / "log"
    begun(definition, url)
    worker = start_worker(definition, url, log)
    time.sleep(2)
    with locked_sqlite(folder / "cheap.db", float(number)):
        pass
    time.sleep(2)
    ended = not worker.is_alive()
    kill(worker)
    finish(definition, url, log)
    return f"a lock of {number} s ends no search", 1, ended + wrong_trials(definition, url, log, 1)


def finish(definition: StudyDefinition, url: str, log: Path) -> None:
    """One last worker, which finds nothing but what the dead have left."""
    running = sum(r.state == "running" for r in StoredStudy.load(url, definition.name).records())
    start = start_worker(definition, url, log, more=running + 1)
    start.join(120)


def main() -> None:
    """Measures the promises and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--share", type=float, default=1.0, help="of the full number of faults")
    parser.add_argument("--only", default="kills,workers,fencing,outage,lock")
    options = parser.parse_args()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    chosen = options.only.split(",")
    full: dict[str, tuple[int, Callable[[str, Path, int], Row]]] = {
        "kills": (300, kills), "workers": (256, workers), "fencing": (50, fencing),
        "lock": (60, lock),
    }  # fmt: skip
    table = Table("promise", "database", "N", "failures", "95 % bound", "seconds")
    binaries = find_postgres()

    def measure(name: str, database: str, number: int, run: Callable[[Path, int], Row]) -> None:
        with tempfile.TemporaryDirectory() as folder:
            began = time.monotonic()
            promise, n, failures = run(Path(folder), max(1, round(number * options.share)))
            bound = beta.ppf(0.95, failures + 1, n - failures) if failures < n else 1.0
            seconds = f"{time.monotonic() - began:.0f}"
            table.add_row(promise, database, str(n), str(failures), f"{bound:.2%}", seconds)
            print(name, database, n, failures, seconds, file=sys.stderr, flush=True)

    for name, (number, run) in full.items():
        if name in chosen:
            measure(
                name, "SQLite", number,
                lambda f, n, run=run: run(f"sqlite:///{f}/cheap.db", f, n),
            )  # fmt: skip
    if binaries is not None:
        for name, (number, run) in full.items():
            if name in chosen and name != "lock":
                with PostgresServer(binaries) as server:
                    measure(
                        name, "PostgreSQL", number,
                        lambda f, n, run=run, url=server.url: run(url, f, n),
                    )  # fmt: skip
        if "outage" in chosen:
            with PostgresServer(binaries) as server:
                measure("outage", "PostgreSQL", 50, lambda f, n: outage(server, f, n))
    Console(width=120).print(table)


if __name__ == "__main__":
    main()
