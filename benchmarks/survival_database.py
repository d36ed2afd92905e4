"""Promises that a study's database keeps, each broken at as often as is asked.

A failure is a trial that was lost, told twice, changed after it was acknowledged, or left running.
"""

import itertools
import os
import random
import signal
import socket
import time
import urllib.request
from collections import Counter
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from command import start
from faults import (
    DEVICES,
    STUDY,
    AcknowledgedLog,
    PostgresServer,
    acknowledged,
    begun,
    end_at_trial,
    fail_at_commit,
    jumping_clock,
    kill,
    locked_sqlite,
    start_worker,
    wait_until_frozen,
    with_target,
    write_definition,
)
from optuna.storages._rdb import models
from optuna.trial import TrialState
from sqlalchemy import insert, text

from betanas.database.rows import put_attributes, put_parameters
from betanas.database.stored import StoredStudy
from betanas.jobs.optimize import Search
from betanas.launcher.client import TrainerServer
from betanas.search.plan import study_problem
from betanas.study.definition import StudyDefinition
from betanas.trial import TrainingResult, TrialRecord, TrialTask


@dataclass(frozen=True)
class Row:
    """What one promise was tried with.

    Attributes:
        promise: In words.
        n: How often it was tried.
        failures: How often it was broken; None where a time is measured instead.
        note: What else was seen.
    """

    promise: str
    n: int
    failures: int | None
    note: str = ""


def wrong_trials(definition: StudyDefinition, url: str, log: Path, points: int) -> int:
    """Counts trials that were lost, told twice, changed, misplaced or left running."""
    stored = StoredStudy.load(url, definition.name)
    records = stored.records()
    problem = study_problem(definition, stored.settings)
    wrong = max(0, points - len(records))
    for record, point in zip(records, problem.sobol_points(0, len(records)), strict=True):
        kernel = problem.space.kernel(point)
        wrong += record.state not in ("complete", "pruned") or record.parameters != kernel
    told = acknowledged(log)
    wrong += sum(n - 1 for n in Counter(number for number, _, _ in told).values())
    wrong += sum((records[n].state, records[n].value) != (s, v) for n, s, v in told)
    return wrong


def different_trials(definition: StudyDefinition, url: str, folder: Path, points: int) -> int:
    """Counts the first trials in which a study differs from one that nobody disturbed."""
    calm = folder / "calm"
    calm.mkdir()
    other = f"sqlite:///{calm}/cheap.db"
    start_worker(definition, other, calm / "log", seconds=0.0, more=points).join(600)
    here, there = (
        [(r.state, r.value, r.parameters) for r in StoredStudy.load(u, definition.name).records()]
        for u in (url, other)
    )
    return sum(a != b for a, b in zip(here[:points], there, strict=True))


def finish(definition: StudyDefinition, url: str, log: Path) -> None:
    """One last worker, which finds nothing but what the dead have left.

    Raises:
        RuntimeError: If it does not end: on a machine that is too busy nothing is measured.
    """
    running = sum(r.state == "running" for r in StoredStudy.load(url, definition.name).records())
    last = start_worker(definition, url, log, more=running + 1)
    last.join(600)
    if last.exitcode != 0:
        raise RuntimeError(f"the last worker has not ended well: exit code {last.exitcode}")


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
    told = f"{len(acknowledged(log))} results acknowledged"
    return Row("nothing acknowledged is lost", number, wrong_trials(definition, url, log, 1), told)


def workers(url: str, folder: Path, number: int) -> Row:
    """Eight workers, killed and replaced, on so many Sobol points."""
    definition, log = with_target(write_definition(folder), url, number), folder / "log"
    rng, struck = random.Random(2), 0
    team = [start_worker(definition, url, log) for _ in range(8)]
    while any(w.is_alive() for w in team) and struck < number // 4:
        time.sleep(rng.uniform(0.1, 0.5))
        i = rng.randrange(len(team))
        if team[i].is_alive():
            kill(team[i])
            team[i], struck = start_worker(definition, url, log), struck + 1
    for worker in team:
        worker.join(600)
    extra = StoredStudy.load(url, definition.name).counted() - definition.search.trials
    finish(definition, url, log)
    wrong = wrong_trials(definition, url, log, number)
    wrong += different_trials(definition, url, folder, number)
    wrong += not 0 <= extra <= len(team)
    told = f"{struck} kills, {extra} trials more than asked for"
    return Row("8 workers take every Sobol point once", number, wrong, told)


def gaps(url: str, folder: Path, number: int) -> Row:
    """A kill before or after each commit of a trial's life, then one lease and one sweep."""
    definition, log, left, struck = write_definition(folder), folder / "log", 0, 0
    stored = begun(definition, url)
    call, longest = 1, 0
    while struck < number:
        after = struck % 2 == 1
        prepare = fail_at_commit(call, after=after)
        victim = start_worker(definition, url, log, more=2, lease_seconds=0.5, prepare=prepare)
        victim.join(60)
        if victim.exitcode == 0:  # a trial's life has no more commits
            call = 1
            continue
        struck, longest = struck + 1, max(longest, call)
        call += after
        left += victim.exitcode != -signal.SIGKILL
        time.sleep(0.6)
        start_worker(definition, url, log, more=2, lease_seconds=0.5).join(60)
        left += sum(r.state == "running" for r in stored.records())
    wrong = left + wrong_trials(definition, url, log, 1)
    return Row("a kill in any gap leaves no zombie", number, wrong, f"{longest} commits a trial")


def fencing(url: str, folder: Path, number: int) -> Row:
    """A worker is frozen past its lease, its trial taken over, then it thaws.

    Every other one is frozen while it trains, the rest after a commit of a trial's life.
    """
    seen: Counter[str] = Counter()
    call, longest, frozen = 1, 0, 0
    unlimited = STUDY.replace("num_params = 300_000", "")  # every trial trains
    definition, log = write_definition(folder, unlimited), folder / "log"
    stored = begun(definition, url)
    while frozen < number:
        trains = frozen % 2 == 0
        stops = fail_at_commit(call, after=True, strike=signal.SIGSTOP)
        prepare = (lambda: None) if trains else stops
        seconds = 2.0 if trains else 0.02
        worker = start_worker(
            definition, url, log, seconds=seconds, more=3, lease_seconds=0.5, prepare=prepare
        )
        assert worker.pid is not None
        held = None
        if trains:
            held = _wait_for_training(stored)
            os.kill(worker.pid, signal.SIGSTOP)
        elif wait_until_frozen(worker):
            longest, call = max(longest, call), call + 1
        else:  # a trial's life has no more commits
            call = 1
            continue
        frozen += 1
        time.sleep(0.6)
        heir = start_worker(definition, url, log, more=1)
        heir.join(60)
        seen["heirs that did not end"] += heir.exitcode != 0
        taken = None if held is None else stored.record(held)
        os.kill(worker.pid, signal.SIGCONT)
        worker.join(60)
        heir.join(60)
        seen["workers that did not end well"] += worker.exitcode != 0
        if held is not None and taken is not None:
            seen["trials not taken over"] += taken.state != "complete"
            seen["late writes"] += taken.state == "complete" and stored.record(held) != taken
        seen["trials left running"] += sum(r.state == "running" for r in stored.records())
    seen["wrong trials"] = wrong_trials(definition, url, log, 1)
    told = [f"{(number + 1) // 2} in training, the others after {longest} commits of a trial"]
    told += [f"{n} {what}" for what, n in seen.items() if n]
    return Row("a late write is refused, the worker lives", number, seen.total(), "; ".join(told))


def clock(url: str, folder: Path, number: int) -> Row:
    """Four workers on so many Sobol points, the time of day of each jumping by hours."""
    definition, log = with_target(write_definition(folder), url, number), folder / "log"
    team = [
        start_worker(definition, url, log, lease_seconds=5.0, prepare=jumping_clock(i))
        for i in range(4)
    ]
    for worker in team:
        worker.join(600)
    ended = sum(worker.exitcode != 0 for worker in team)
    finish(definition, url, log)
    wrong = ended + wrong_trials(definition, url, log, number)
    wrong += different_trials(definition, url, folder, number)
    return Row("jumps of the clock, by up to 2 h, change nothing", number, wrong)


def _wait_for_training(stored: StoredStudy) -> int | None:
    """The number of the trial that trains now; None if none does within half a minute."""
    deadline = time.monotonic() + 30
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
    before, deadline = len(acknowledged(log)), time.monotonic() + 120
    while worker.is_alive() and len(acknowledged(log)) == before and time.monotonic() < deadline:
        time.sleep(0.1)
    ended = not worker.is_alive() or len(acknowledged(log)) == before
    kill(worker)
    finish(definition, server.url, log)
    wrong = ended + wrong_trials(definition, server.url, log, 1)
    return Row("restarts end no search", number, wrong)


def lock(url: str, folder: Path, number: int) -> Row:
    """Another process holds the file's write lock for so many seconds."""
    definition, log = write_definition(folder), folder / "log"
    begun(definition, url)
    worker = start_worker(definition, url, log)
    time.sleep(2)
    with locked_sqlite(folder / "cheap.db", float(number)):
        pass
    before, deadline = len(acknowledged(log)), time.monotonic() + 120
    while worker.is_alive() and len(acknowledged(log)) == before and time.monotonic() < deadline:
        time.sleep(0.1)
    ended = not worker.is_alive() or len(acknowledged(log)) == before
    kill(worker)
    finish(definition, url, log)
    wrong = ended + wrong_trials(definition, url, log, 1)
    return Row(f"a lock of {number} s ends no search", 1, wrong)


def crash(url: str, folder: Path, number: int) -> Row:
    """The trainer takes its worker along in one trial of so many; the same study goes on."""
    definition, log = with_target(write_definition(folder), url, number), folder / "log"
    at = max(0, round(number * 215 / 300) - 1)
    victim = start_worker(definition, url, log, prepare=end_at_trial(at))
    victim.join(600)
    struck = victim.exitcode == -signal.SIGKILL
    start_worker(definition, url, log).join(600)
    wrong = (not struck) + wrong_trials(definition, url, log, number)
    wrong += different_trials(definition, url, folder, number)
    return Row(f"a crash at trial {at} of {number} changes nothing", 1, wrong)


def dashboard(url: str, folder: Path, number: int) -> Row:
    """The dashboard, polled every second while workers are killed."""
    definition, log = write_definition(folder), folder / "log"
    begun(definition, url)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    where = ("--study", "cheap.toml", "--storage", url, "--port", port)
    browser = start(folder, "dashboard", *where)
    address, rng, failures = f"http://127.0.0.1:{port}/api/studies", random.Random(4), 0
    while not _answers(address):
        time.sleep(0.2)
    for i in range(number):
        worker = start_worker(definition, url, log)
        time.sleep(1.0)
        failures += not _answers(f"{address}/1" if i % 2 else address)
        if rng.random() < 0.5:
            time.sleep(rng.uniform(0.0, 0.5))
        kill(worker)
    browser.kill()  # wsgiref swallows a Ctrl-C that comes during a request
    out, err = browser.communicate(timeout=60)
    failures += (out + err).count("is locked")
    finish(definition, url, log)
    wrong = failures + wrong_trials(definition, url, log, 1)
    return Row("the dashboard neither disturbs nor is disturbed", number, wrong)


class _Instant(TrainerServer):
    """Stands where the trainer server does, and takes no time."""

    def __init__(self) -> None:
        """Starts nothing."""

    def run(self, task: TrialTask, *_: object) -> TrainingResult:  # type: ignore[override]
        """Returns a value at once."""
        return TrainingResult(value=0.5, steps=1, ranks=1)


def _answers(address: str) -> bool:
    try:
        with urllib.request.urlopen(address, timeout=30) as answer:  # noqa: S310
            return bool(answer.status == 200 and answer.read())
    except OSError:
        return False


def scale(url: str, folder: Path, number: int) -> Row:
    """The time from one record to the next in a study of so many trials, 100 intermediates each."""
    definition = write_definition(folder)
    _fill(definition, begun(definition, url), number)
    more = max(20, number // 20)
    search = definition.search.model_copy(update={"trials": number + more, "sobol_trials": 10**6})
    definition = definition.model_copy(update={"search": search})
    log = _Stamps(folder / "log")
    stored = StoredStudy.load(url, definition.name)
    began = time.perf_counter()
    Search(definition, stored, DEVICES, folder, log).run(_Instant(), None)
    first = log.stamps[0] - began
    taken = sorted(b - a for a, b in itertools.pairwise(log.stamps))
    median, p95 = (1000 * taken[int(share * len(taken))] for share in (0.5, 0.95))
    note = f"{len(taken)} trials: median {median:.0f} ms, p95 {p95:.0f} ms; first {first:.1f} s"
    return Row(f"a study of {number} trials answers at once", number, None, note)


class _Stamps(AcknowledgedLog):
    """A log that notes when each trial was recorded, too."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.stamps: list[float] = []

    def recorded(self, record: TrialRecord) -> None:
        """One line, and the time after it."""
        super().recorded(record)
        self.stamps.append(time.perf_counter())


def _fill(definition: StudyDefinition, stored: StoredStudy, number: int) -> None:
    """Completes a study's first trials at once, with 100 intermediate values each."""
    problem, now = (
        study_problem(definition, stored.settings),
        datetime.now(UTC).replace(tzinfo=None),
    )
    common = {
        "study_id": stored.study._study_id,
        "state": TrialState.COMPLETE,
        "_datetime_start_utc": now,
        "_datetime_complete_utc": now,
    }
    with stored.database.engine.begin() as connection:
        trials = [{"trial_id": i + 1, "number": i, **common} for i in range(number)]
        connection.execute(insert(models.TrialModel), trials)
        value = {
            "objective": 0,
            "value": 0.5,
            "value_type": models.TrialValueModel.TrialValueType.FINITE,
        }
        values = [{"trial_id": i + 1, **value} for i in range(number)]
        connection.execute(insert(models.TrialValueModel), values)
        finite = models.TrialIntermediateValueModel.TrialIntermediateValueType.FINITE
        curve = {"intermediate_value": 0.5, "intermediate_value_type": finite}
        steps = [
            {"trial_id": i + 1, "step": step, **curve} for i in range(number) for step in range(100)
        ]
        connection.execute(insert(models.TrialIntermediateValueModel), steps)
        for i, point in enumerate(problem.sobol_points(0, number)):
            kernel = dict(problem.space.kernel(point))
            put_parameters(connection, i + 1, kernel, problem.space.distributions)
        facts = {i + 1: {"phase": "sobol"} for i in range(number)}
        put_attributes(connection, facts)
        if connection.dialect.name == "postgresql":  # its counter has not seen these numbers
            told = "SELECT setval(pg_get_serial_sequence('trials', 'trial_id'), :number)"
            connection.execute(text(told), {"number": number})
