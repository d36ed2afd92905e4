"""Promises that hold where trials are ended early, and where one command has several workers.

Trainings take a moment and tell of themselves on the way (``TellingTrainer``), so that
``search.pruner = "model"`` ends some of them; a failure is what ``survival_database.py`` counts.
"""

import os
import random
import signal
import time
from collections import Counter
from functools import partial
from multiprocessing.process import BaseProcess
from pathlib import Path

from command import descendants, is_alive
from faults import (
    DEVICES,
    STUDY,
    AcknowledgedLog,
    acknowledged,
    begun,
    fail_at_commit,
    kill,
    make_trainer,
    start_process,
    start_worker,
    with_target,
    write_definition,
)
from survival_database import Row, different_trials, finish, wrong_trials

from betanas.database.stored import StoredStudy
from betanas.jobs import crew, trials
from betanas.jobs.crew import Crew
from betanas.jobs.optimize import Search, Team
from betanas.jobs.trials import Reporter
from betanas.study.definition import StudyDefinition
from betanas.trial import STOPPED_EARLY, TrialRecord

STOPPING = STUDY.replace("[search]", '[search]\npruner = "model"')
_COMMITS = 20  # about those of a trial's life, with its looks
_WORKERS = 4
_COMMANDS = 0.25  # share of the kills that strike the command, not one of its workers
_GONE_SECONDS = 10.0


def stopping(url: str, folder: Path, number: int) -> Row:
    """Kill -9 of the one worker while a pruner ends trials.

    Every other kill strikes at a random moment, the rest after each commit of a trial's life in
    turn. What the pruner ends is a function of the database: the study equals one that nobody
    disturbed.
    """
    definition, log = write_definition(folder, STOPPING), folder / "log"
    stored, rng = begun(definition, url), random.Random(8)
    for i in range(number):
        if i % 2:
            prepare = fail_at_commit(1 + i // 2 % _COMMITS, after=True)
            start_worker(definition, url, log, prepare=prepare).join(600)
            continue
        worker = start_worker(definition, url, log)
        _wait_until_worn(worker, rng.uniform(0.1, 1.5))
        kill(worker)
    finish(definition, url, log)
    points = len(stored.records())
    wrong = wrong_trials(definition, url, log, points)
    wrong += different_trials(definition, url, folder, points)
    ended = sum(r.reason == STOPPED_EARLY for r in stored.records())
    told = f"{len(acknowledged(log))} results acknowledged, {ended} of {points} trials ended early"
    return Row("what a pruner has ended stays so, and nothing else is", number, wrong, told)


def crew_kills(url: str, folder: Path, number: int) -> Row:
    """Kill -9 of ``--workers 4`` and of its workers, while a pruner ends trials."""
    definition = with_target(write_definition(folder, STOPPING), url, 2 * number)
    log, rng, struck, wrong = folder / "log", random.Random(9), Counter[str](), 0
    command = _start_command(definition, url, log)
    while command.is_alive() and struck.total() < number:
        _wait_for_trials(command, log, rng.randint(0, 3))
        time.sleep(rng.uniform(0.0, 0.2))
        below = descendants(command.pid or 0)
        if rng.random() < _COMMANDS:
            kill(command)
            wrong += not _all_gone(below)
            struck["the command"] += 1
            command = _start_command(definition, url, log)
        elif below:
            os.kill(rng.choice(below), signal.SIGKILL)
            struck["one of its workers"] += 1
    command.join(600)
    wrong += command.exitcode != 0
    kill(command)
    stored = StoredStudy.load(url, definition.name)
    records = stored.records()
    wrong += abs(stored.counted() - definition.search.trials)
    wrong += sum(r.state == "running" for r in records)
    wrong += wrong_trials(definition, url, log, 2 * number)
    ended = sum(r.reason == STOPPED_EARLY for r in records)
    told = [f"{n} of {whom}" for whom, n in sorted(struck.items())]
    told.append(f"{ended} of {len(records)} trials ended early; the target met exactly")
    return Row("--workers loses nothing", struck.total(), wrong, ", ".join(told))


class _Both(AcknowledgedLog):
    """A worker's reporter: notes what was recorded, then passes everything on."""

    def __init__(self, path: Path, relay: Reporter) -> None:
        super().__init__(path)
        self._relay = relay

    def begins(self, definition: StudyDefinition, stored: StoredStudy, sobol: int) -> None:
        """Passes it on."""
        self._relay.begins(definition, stored, sobol)

    def proposed(self, record: TrialRecord) -> None:
        """Passes it on."""
        self._relay.proposed(record)

    def recorded(self, record: TrialRecord) -> None:
        """On disk first."""
        super().recorded(record)
        self._relay.recorded(record)


def _work(
    definition: StudyDefinition, url: str, log: Path, relay: Reporter, team: Team
) -> StoredStudy:
    """What a worker of the command does: all but real trainings."""
    stored = begun(definition, url)
    search = Search(definition, stored, DEVICES, log.parent / "trials", _Both(log, relay))
    search.run(make_trainer(definition, seconds=0.02), None, team.may_begin)
    return stored


def _start_command(definition: StudyDefinition, url: str, log: Path) -> BaseProcess:
    """``betanas optimize --workers 4``, whose workers may be killed as often as one likes."""

    def run() -> None:
        trials.MAX_ATTEMPTS = crew.MAX_DEATHS = 1000
        work = partial(_work, definition, url, log)
        quiet = AcknowledgedLog(log.with_name("unused"))
        quiet.recorded = lambda _: None  # type: ignore[method-assign]
        Crew(definition, url, None, quiet, work, [[]] * _WORKERS).run()

    return start_process(run, daemon=False)


def _wait_until_worn(process: BaseProcess, seconds: float) -> None:
    """Waits until a process has used so many processor seconds, on a busy machine as elsewhere."""
    stat = Path(f"/proc/{process.pid}/stat")
    while process.is_alive():
        fields = stat.read_text().rpartition(")")[2].split()
        if (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK") >= seconds:
            return
        time.sleep(0.01)


def _wait_for_trials(command: BaseProcess, log: Path, more: int) -> None:
    """Waits until so many more trials are recorded, or the command ends."""
    wanted = len(acknowledged(log)) + more
    while command.is_alive() and len(acknowledged(log)) < wanted:
        time.sleep(0.02)


def _all_gone(pids: list[int]) -> bool:
    """Whether processes end in time."""
    deadline = time.monotonic() + _GONE_SECONDS
    while any(map(is_alive, pids)):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True
