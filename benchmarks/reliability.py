"""What survives what: kills, freezes, restarts, locks, full disks; counts with 95 % bounds.

    .venv/bin/python benchmarks/reliability.py                       # all of it, about two hours
    .venv/bin/python benchmarks/reliability.py --share 0.02          # a sample, minutes
    .venv/bin/python benchmarks/reliability.py --only kills,outage
    .venv/bin/python benchmarks/reliability.py --print               # the table of what is known

A row that is in the results file already is not measured again, so the same command goes on where
it was stopped. Workers are ``betanas optimize`` but for their trainings, which take a moment and
whose value is a function of the architecture; orphans are those of real searches. The faults are
those of the tests (``tests/faults.py``). The bound is the exact (Clopper-Pearson) one-sided 95 %
limit of the failure rate.
"""

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import optuna
from scipy.stats import beta

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
import survival_database as database
import survival_workers as workers
from faults import PostgresServer, find_postgres
from survival_database import Row
from survival_processes import PROCESSES

RESULTS = Path(__file__).parent / "results" / "reliability.jsonl"
BOTH: dict[str, tuple[int, Callable[[str, Path, int], Row]]] = {
    "kills": (300, database.kills),
    "workers": (256, database.workers),
    "stopping": (300, workers.stopping),
    "crew": (120, workers.crew_kills),
    "gaps": (140, database.gaps),
    "fencing": (50, database.fencing),
    "crash": (300, database.crash),
    "clock": (128, database.clock),
    "dashboard": (120, database.dashboard),
    "scale": (4000, database.scale),
}
ALL = (*BOTH, "lock", "outage", *PROCESSES)


Run = Callable[[Path, int], Row]


@dataclass(frozen=True)
class Job:
    """One row to measure: a promise on a database, tried so often in the full run."""

    mode: str
    database: str
    full: int
    run: Run


class Results:
    """The rows that were measured, one a line of a file.

    Args:
        path: The file; need not be there yet.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        lines = path.read_text().splitlines() if path.exists() else []
        self.rows: list[dict[str, Any]] = [json.loads(line) for line in lines]

    def measure(self, job: Job, number: int) -> None:
        """Measures a row, unless it was already, and writes it down."""
        key = {"mode": job.mode, "database": job.database, "asked": number}
        if any(key.items() <= row.items() for row in self.rows):
            return
        began = time.monotonic()
        with tempfile.TemporaryDirectory(prefix="betanas-") as folder:
            row = job.run(Path(folder), number)
        day = datetime.now(UTC).date().isoformat()
        seconds = round(time.monotonic() - began, 1)
        told = {**key, **vars(row), "seconds": seconds, "date": day, "cores": os.cpu_count()}
        self.rows.append(told)
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with self._path.open("a") as file:
            file.write(json.dumps(told) + "\n")
        print(json.dumps(told), file=sys.stderr, flush=True)

    def table(self) -> str:
        """All rows, as Markdown."""
        lines = [
            "| promise | database | N | failures | 95 % bound | seen | seconds |",
            "|---|---|---|---|---|---|---|",
        ]
        for row in self.rows:
            n, failures = row["n"], row["failures"]
            bound = "-"
            if failures is not None:
                limit = beta.ppf(0.95, failures + 1, n - failures) if failures < n else 1.0
                bound = f"{100 * limit:.2g} %"
            shown = "-" if failures is None else failures
            lines.append(
                f"| {row['promise']} | {row['database']} | {n} | {shown} | {bound} "
                f"| {row['note']} | {row['seconds']:.0f} |"
            )
        return "\n".join(lines)


def jobs() -> list[Job]:
    """Everything that is measured, in order."""
    found = [Job(mode, "-", full, run) for mode, (full, run) in PROCESSES.items()]
    found.append(Job("lock", "SQLite", 60, _on_file(database.lock)))
    found += [Job(mode, "SQLite", full, _on_file(run)) for mode, (full, run) in BOTH.items()]
    binaries = find_postgres()
    if binaries is None:
        print("no PostgreSQL binaries here: its rows are left out", file=sys.stderr)
        return found

    def on_server(run: Callable[[PostgresServer, Path, int], Row]) -> Run:
        def measured(folder: Path, number: int) -> Row:
            with PostgresServer(binaries, durable=True) as server:
                return run(server, folder, number)

        return measured

    for mode, (full, run) in BOTH.items():
        there = on_server(lambda server, f, n, run=run: run(server.url, f, n))
        found.append(Job(mode, "PostgreSQL", full, there))
    found.append(Job("outage", "PostgreSQL", 50, on_server(database.outage)))
    return found


def _on_file(run: Callable[[str, Path, int], Row]) -> Run:
    return lambda folder, number: run(f"sqlite:///{folder}/cheap.db", folder, number)


def main() -> None:
    """Measures the promises and prints the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--share", type=float, default=1.0, help="of the full number of faults")
    parser.add_argument("--only", default=",".join(ALL), help="modes, with commas between")
    parser.add_argument("--results", type=Path, default=RESULTS, help="file of measured rows")
    parser.add_argument("--print", action="store_true", help="measure nothing, print the table")
    options = parser.parse_args()
    chosen = options.only.split(",")
    if unknown := set(chosen) - set(ALL):
        parser.error(f"--only must be of {', '.join(ALL)}, but got {', '.join(sorted(unknown))}")
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    results = Results(options.results)
    if not options.print:
        for job in jobs():
            if job.mode in chosen:
                results.measure(job, max(1, round(job.full * options.share)))
    print(results.table())


if __name__ == "__main__":
    main()
