"""Whatever is killed, frozen, cut off or locked: nothing is lost, nothing happens twice."""

import os
import random
import signal
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import optuna
import pytest
from command import wait_for
from faults import (
    GAPS,
    STUDY,
    PostgresServer,
    acknowledged,
    begun,
    fail_at,
    fail_at_commit,
    find_postgres,
    jumping_clock,
    kill,
    locked_sqlite,
    start_worker,
    wait_until_frozen,
    with_target,
    write_definition,
)

from betanas.database import connect as database
from betanas.database.leases import Leases
from betanas.database.stored import StoredStudy
from betanas.search.plan import study_problem
from betanas.study.definition import StudyDefinition

pytestmark = pytest.mark.slow

POINTS = 48


@pytest.fixture(scope="module")
def postgres() -> Iterator[PostgresServer]:
    binaries = find_postgres()
    if binaries is None:
        pytest.skip("no PostgreSQL binaries here (Debian: apt-get install postgresql)")
    pytest.importorskip("psycopg")
    with PostgresServer(binaries) as server:
        yield server


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/cheap.db"
    server: PostgresServer = request.getfixturevalue("postgres")
    for name in optuna.get_all_study_names(server.url):
        optuna.delete_study(study_name=name, storage=server.url)
    return server.url


def check_ledger(definition: StudyDefinition, url: str, log: Path, points: int) -> None:
    """Every Sobol point once and in its place, everything acknowledged is recorded, once."""
    stored = StoredStudy.load(url, definition.name)
    records = stored.records()
    problem = study_problem(definition, stored.settings)
    assert [r.number for r in records] == list(range(len(records)))
    assert len(records) >= points
    for record, point in zip(records, problem.sobol_points(0, len(records)), strict=True):
        assert record.state in ("complete", "pruned"), record
        assert record.parameters == problem.space.kernel(point)
    told = acknowledged(log)
    assert not [n for n, count in Counter(n for n, _, _ in told).items() if count > 1]
    for number, state, value in told:
        assert (records[number].state, records[number].value) == (state, value)


def test_eight_workers_with_kills_take_every_point_once(url: str, tmp_path: Path) -> None:
    definition = with_target(write_definition(tmp_path), url, POINTS)
    log, rng = tmp_path / "log", random.Random(0)
    workers = [start_worker(definition, url, log) for _ in range(8)]
    for _ in range(12):
        time.sleep(rng.uniform(0.05, 0.3))
        victim = rng.randrange(len(workers))
        kill(workers[victim])
        workers[victim] = start_worker(definition, url, log)
    for worker in workers:
        worker.join(120)
        assert worker.exitcode == 0
    extra = begun(definition, url).counted() - definition.search.trials
    assert 0 <= extra <= len(workers)
    kill(start := start_worker(definition, url, log, more=1))
    sweep = start_worker(definition, url, log, more=len(workers))
    sweep.join(60)
    assert sweep.exitcode == 0
    assert start.exitcode is not None
    check_ledger(definition, url, log, POINTS)


def test_workers_that_open_a_new_database_together_all_work(url: str, tmp_path: Path) -> None:
    definition, log = write_definition(tmp_path), tmp_path / "log"
    workers = [start_worker(definition, url, log, more=1) for _ in range(6)]
    for worker in workers:
        worker.join(60)
        assert worker.exitcode == 0
    check_ledger(definition, url, log, 6)


def _name(gap: tuple[type, str, int, bool]) -> str:
    return f"{gap[0].__name__}.{gap[1]}-{'after' if gap[3] else 'before'}"


@pytest.mark.parametrize("gap", GAPS, ids=_name)
def test_a_kill_in_any_gap_leaves_no_zombie(
    gap: tuple[type, str, int, bool], tmp_path: Path
) -> None:
    url, log = f"sqlite:///{tmp_path}/cheap.db", tmp_path / "log"
    definition = write_definition(tmp_path)
    owner, method, call, after = gap
    victim = start_worker(
        definition, url, log, lease_seconds=0.5, prepare=fail_at(owner, method, call, after=after)
    )
    victim.join(60)
    assert victim.exitcode == -signal.SIGKILL
    time.sleep(0.6)  # one lease
    sweep = start_worker(definition, url, log, more=3, lease_seconds=0.5)
    sweep.join(60)
    assert sweep.exitcode == 0
    records = StoredStudy.load(url, definition.name).records()
    assert not [r for r in records if r.state == "running"]
    check_ledger(definition, url, log, 3)


def test_a_frozen_worker_that_thaws_cannot_overwrite(url: str, tmp_path: Path) -> None:
    definition = write_definition(tmp_path, STUDY.replace("num_params = 300_000", ""))
    log = tmp_path / "log"
    frozen = start_worker(definition, url, log, seconds=1.0, more=2, lease_seconds=1.0)
    stored = begun(definition, url)
    wait_for(lambda: [r for r in stored.records() if r.state == "running" and r.fingerprint])
    time.sleep(0.2)  # it trains now, and holds no lock of the database
    assert frozen.pid is not None
    os.kill(frozen.pid, signal.SIGSTOP)
    held = next(r.number for r in stored.records() if r.state == "running")
    time.sleep(1.2)  # longer than its lease
    other = start_worker(definition, url, log, more=1)
    other.join(60)
    taken = stored.record(held)
    assert taken.state == "complete"
    os.kill(frozen.pid, signal.SIGCONT)
    frozen.join(60)
    assert frozen.exitcode == 0, "the worker that thawed goes on with other trials"
    assert stored.record(held) == taken


@pytest.mark.parametrize("gap", GAPS, ids=_name)
def test_a_worker_frozen_in_any_gap_goes_on_when_it_thaws(
    gap: tuple[type, str, int, bool], tmp_path: Path
) -> None:
    url, log = f"sqlite:///{tmp_path}/cheap.db", tmp_path / "log"
    definition = write_definition(tmp_path)
    owner, method, call, after = gap
    stops = fail_at(owner, method, call, after=after, strike=signal.SIGSTOP)
    frozen = start_worker(definition, url, log, more=3, lease_seconds=0.5, prepare=stops)
    assert wait_until_frozen(frozen)
    assert frozen.pid is not None
    time.sleep(0.6)  # one lease
    start_worker(definition, url, log, more=2, lease_seconds=0.5).join(60)
    os.kill(frozen.pid, signal.SIGCONT)
    frozen.join(60)
    assert frozen.exitcode == 0
    records = StoredStudy.load(url, definition.name).records()
    assert not [r for r in records if r.state == "running"]
    check_ledger(definition, url, log, 5)


def test_a_trial_that_was_claimed_on_its_workers_behalf_is_its_own(tmp_path: Path) -> None:
    url, log = f"sqlite:///{tmp_path}/cheap.db", tmp_path / "log"
    definition = write_definition(tmp_path)
    stops = fail_at(
        Leases, "_insert", 3, after=False, strike=signal.SIGSTOP
    )  # after setup's and 0's
    frozen = start_worker(definition, url, log, more=2, prepare=stops)
    assert wait_until_frozen(frozen)
    assert frozen.pid is not None
    start_worker(definition, url, log, more=1).join(60)  # it gives the frozen one time to claim
    os.kill(frozen.pid, signal.SIGCONT)
    frozen.join(60)
    assert frozen.exitcode == 0
    records = StoredStudy.load(url, definition.name).records()
    assert [r.state == "running" for r in records] == [False] * 3


def test_a_worker_frozen_with_locks_in_its_hands_stops_no_other(
    postgres: PostgresServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in optuna.get_all_study_names(postgres.url):
        optuna.delete_study(study_name=name, storage=postgres.url)
    monkeypatch.setitem(database._SESSION, "idle_in_transaction_session_timeout", "'1s'")
    definition, log = write_definition(tmp_path), tmp_path / "log"
    stops = fail_at_commit(2, after=False, strike=signal.SIGSTOP)  # it has made a new trial
    frozen = start_worker(definition, postgres.url, log, more=3, prepare=stops)
    assert wait_until_frozen(frozen)
    assert frozen.pid is not None
    other = start_worker(definition, postgres.url, log, more=2)
    other.join(30)
    assert other.exitcode == 0
    os.kill(frozen.pid, signal.SIGCONT)
    frozen.join(60)
    assert frozen.exitcode == 0
    check_ledger(definition, postgres.url, log, 5)


def test_workers_whose_clocks_jump_take_every_point_once(url: str, tmp_path: Path) -> None:
    definition, log = with_target(write_definition(tmp_path), url, 16), tmp_path / "log"
    workers = [
        start_worker(definition, url, log, lease_seconds=5.0, prepare=jumping_clock(i))
        for i in range(3)
    ]
    for worker in workers:
        worker.join(60)
        assert worker.exitcode == 0
    check_ledger(definition, url, log, 16)


def test_a_restarting_database_ends_no_search(postgres: PostgresServer, tmp_path: Path) -> None:
    for name in optuna.get_all_study_names(postgres.url):
        optuna.delete_study(study_name=name, storage=postgres.url)
    definition = with_target(write_definition(tmp_path), postgres.url, 24)
    log = tmp_path / "log"
    worker = start_worker(definition, postgres.url, log, seconds=0.1)
    for _ in range(4):
        time.sleep(0.7)
        postgres.stop()
        time.sleep(0.3)
        postgres.start()
    worker.join(120)
    assert worker.exitcode == 0
    check_ledger(definition, postgres.url, log, 24)


def test_a_locked_sqlite_file_ends_no_search(tmp_path: Path) -> None:
    url, log = f"sqlite:///{tmp_path}/cheap.db", tmp_path / "log"
    definition = with_target(write_definition(tmp_path), url, 16)
    worker = start_worker(definition, url, log)
    wait_for(lambda: acknowledged(log))
    with locked_sqlite(tmp_path / "cheap.db", seconds=3.0):
        pass
    worker.join(120)
    assert worker.exitcode == 0
    check_ledger(definition, url, log, 16)
