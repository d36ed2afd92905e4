"""Claims on trials: one owner at a time, whoever dies when. Owners are real processes."""

import signal
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.trial import FrozenTrial
from remote_worker import NAME, Held, RemoteWorker, at_once
from sqlalchemy import create_engine

from betanas.database.leases import LEASE_SECONDS, Leases
from betanas.database.stored import SETUP_SECONDS, StoredStudy

ELSEWHERE = "another-machine|boot|1|1"


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[[], RemoteWorker]]:
    """Starts workers of one study, and ends them with the test."""
    with ExitStack() as stack:
        yield lambda: stack.enter_context(RemoteWorker(f"sqlite:///{tmp_path}/mine.db"))


@pytest.fixture
def leases(tmp_path: Path) -> Leases:
    return Leases(create_engine(f"sqlite:///{tmp_path}/mine.db"))


def execute(folder: Path, statement: str, *values: object) -> list[tuple[object, ...]]:
    with closing(sqlite3.connect(folder / "mine.db")) as connection, connection:
        return connection.execute(statement, values).fetchall()


def give_to_another_machine(folder: Path, expires: float) -> None:
    """All leases look as a worker elsewhere would have left them."""
    execute(folder, "UPDATE betanas_leases SET owner = ?, expires = ?", ELSEWHERE, expires)


# -- many workers at once -----------------------------------------------------------------------


def test_four_processes_share_forty_trials(start: Callable[[], RemoteWorker]) -> None:
    workers = [start() for _ in range(4)]
    numbers = at_once(workers, "work", 10)
    assert sorted(n for own in numbers for n in own) == list(range(40))
    expected = [(n, "complete", 1.0 / (1 + n)) for n in range(40)]
    assert workers[0]("records") == expected


def test_living_workers_keep_what_they_hold(start: Callable[[], RemoteWorker]) -> None:
    workers = [start() for _ in range(3)]
    held = [worker("claim") for worker in workers]
    assert [h.number for h in held] == [0, 1, 2]
    assert [h.attempts for h in held] == [0, 0, 0]
    assert at_once(workers, "finish", 0.5) == [True, True, True]


def test_a_living_worker_keeps_its_trial_past_the_end_of_its_lease(
    start: Callable[[], RemoteWorker], tmp_path: Path
) -> None:
    first, second = start(), start()
    assert first("claim").number == 0
    execute(tmp_path, "UPDATE betanas_leases SET expires = 1 WHERE resource LIKE 'trial/%'")
    assert second("claim").number == 1
    assert first("finish", 0.5)


# -- a worker that dies --------------------------------------------------------------------------


def test_a_trial_that_ended_between_look_and_claim_is_not_taken_over(
    start: Callable[[], RemoteWorker], tmp_path: Path
) -> None:
    victim = start()
    assert victim("claim").number == 0
    heir = StoredStudy.load(f"sqlite:///{tmp_path}/mine.db", NAME)
    look = heir.study.get_trials

    def look_and_blink(**options: Any) -> list[FrozenTrial]:
        seen = look(**options)
        if options.get("states") and victim("finish", 0.75):
            victim.signal(signal.SIGKILL)
            heir.study.get_trials = look  # type: ignore[method-assign]
        return seen

    heir.study.get_trials = look_and_blink  # type: ignore[method-assign, assignment]
    assert heir.claim().number == 1
    assert heir.record(0).value == 0.75


def test_a_killed_workers_trial_is_taken_over(start: Callable[[], RemoteWorker]) -> None:
    victim, heir = start(), start()
    assert victim("claim") == Held(number=0, attempts=0, token=1)
    kernel = victim("kernel")
    victim.signal(signal.SIGKILL)
    assert heir("claim") == Held(number=0, attempts=1, token=2)
    assert heir("kernel") == kernel  # what it proposed is not lost
    assert heir("finish", 0.75)
    assert heir("records") == [(0, "complete", 0.75)]
    assert heir("claim").number == 1


def test_a_study_that_begins_again_after_it_was_deleted_owes_the_old_one_nothing(
    start: Callable[[], RemoteWorker], tmp_path: Path
) -> None:
    """SQLite gives the same numbers to the new study and its trials."""
    alive, victim = start(), start()
    held = [worker("claim") for worker in (alive, victim)]
    assert [h.number for h in held] == [0, 1]
    victim.signal(signal.SIGKILL)
    optuna.delete_study(study_name=NAME, storage=f"sqlite:///{tmp_path}/mine.db")
    began = time.monotonic()
    workers = [start() for _ in range(2)]
    assert [w("claim") for w in workers] == [Held(n, attempts=0, token=1) for n in (0, 1)]
    assert time.monotonic() - began < SETUP_SECONDS
    assert at_once(workers, "finish", 0.5) == [True, True]


def test_every_death_is_counted(start: Callable[[], RemoteWorker]) -> None:
    for deaths in range(3):
        worker = start()
        assert worker("claim") == Held(0, attempts=deaths, token=1 + deaths)
        worker.signal(signal.SIGKILL)


def test_only_one_heir(start: Callable[[], RemoteWorker]) -> None:
    victim, heirs = start(), [start() for _ in range(4)]
    victim("claim")
    victim.signal(signal.SIGKILL)
    held = at_once(heirs, "claim")
    assert sorted(h.number for h in held) == [0, 1, 2, 3]
    assert [h.attempts for h in sorted(held, key=lambda h: h.number)] == [1, 0, 0, 0]


def test_failed_attempts_are_counted_by_the_owner(start: Callable[[], RemoteWorker]) -> None:
    worker, heir = start(), start()
    worker("claim")
    assert worker("count_attempt") == Held(0, attempts=1, token=1)
    assert worker("count_attempt") == Held(0, attempts=2, token=1)
    worker.signal(signal.SIGKILL)
    assert heir("claim") == Held(0, attempts=3, token=2)


def test_a_finished_trial_has_no_heir(start: Callable[[], RemoteWorker]) -> None:
    victim, other = start(), start()
    victim("claim")
    victim("finish", 0.5)
    victim.signal(signal.SIGKILL)
    assert other("claim") == Held(1, attempts=0, token=1)


# -- a worker that is stopped in good order ------------------------------------------------------


def test_ctrl_c_gives_the_trial_back(start: Callable[[], RemoteWorker]) -> None:
    stopped, heir = start(), start()
    stopped("claim")
    kernel = stopped("kernel")
    stopped.signal(signal.SIGINT)
    assert heir("claim") == Held(number=0, attempts=0, token=2)  # no failed attempt
    assert heir("kernel") == kernel


def test_release_gives_the_trial_to_others_at_once(start: Callable[[], RemoteWorker]) -> None:
    first, second = start(), start()
    first("claim")
    first("release")
    assert second("claim") == Held(0, attempts=0, token=2)
    assert not first("finish", 0.9)
    assert second("finish", 0.1)
    assert second("records") == [(0, "complete", 0.1)]


# -- fencing ------------------------------------------------------------------------------------


def test_a_late_result_changes_nothing(start: Callable[[], RemoteWorker], tmp_path: Path) -> None:
    late, heir = start(), start()
    late("claim")
    give_to_another_machine(tmp_path, expires=1.0)
    assert heir("claim") == Held(0, attempts=1, token=2)
    assert not late("finish", 0.9)
    assert heir("records") == [(0, "running", None)]
    late("reject", "num_params")
    assert heir("records") == [(0, "running", None)]
    assert heir("finish", 0.25)
    assert not late("finish", 0.9)
    assert heir("records") == [(0, "complete", 0.25)]


def test_a_late_release_takes_nothing_away(
    start: Callable[[], RemoteWorker], tmp_path: Path
) -> None:
    late, heir, third = start(), start(), start()
    late("claim")
    give_to_another_machine(tmp_path, expires=1.0)
    heir("claim")
    late("release")
    assert third("claim").number == 1
    assert heir("finish", 0.25)


# -- owners on other machines --------------------------------------------------------------------


def test_another_machines_trial_is_its_own_until_its_lease_ends(
    start: Callable[[], RemoteWorker], tmp_path: Path
) -> None:
    first, second = start(), start()
    first("claim")
    first.signal(signal.SIGKILL)
    give_to_another_machine(tmp_path, expires=time.time() + 60)
    assert second("claim").number == 1
    second("finish", 0.5)
    give_to_another_machine(tmp_path, expires=time.time() - 1)
    assert second("claim") == Held(0, attempts=1, token=2)


def test_an_owner_from_before_a_restart_is_gone(leases: Leases, tmp_path: Path) -> None:
    assert leases.claim("trial/1") is not None
    ((owner,),) = execute(tmp_path, "SELECT owner FROM betanas_leases")
    host, _boot, pid, started = str(owner).rsplit("|", 3)
    boot = str(_boot).partition("/")[0]
    for gone in (f"{host}|another-boot|{pid}|{started}", f"{host}|{_boot}|{pid}|1"):
        # Its last renewal was before this machine has started.
        execute(tmp_path, "UPDATE betanas_leases SET owner = ?, expires = 1000", gone)
        assert leases.claim("trial/1") is not None
    # As versions before 0.2 named owners.
    execute(tmp_path, "UPDATE betanas_leases SET owner = ?", f"{host}|{boot}|{pid}|1")
    assert leases.claim("trial/1") is not None


def test_another_machine_or_container_of_the_same_name_keeps_its_trial(
    leases: Leases, tmp_path: Path
) -> None:
    assert leases.claim("trial/1") is not None
    ((owner,),) = execute(tmp_path, "SELECT owner FROM betanas_leases")
    host, _boot, _, _ = str(owner).rsplit("|", 3)
    boot = _boot.partition("/")[0]
    for place in ("another-boot/pid:[4026531836]", f"{boot}/pid:[1]"):
        twin = f"{host}|{place}|999999999|1"
        soon = time.time() + LEASE_SECONDS
        execute(tmp_path, "UPDATE betanas_leases SET owner = ?, expires = ?", twin, soon)
        assert leases.claim("trial/1") is None
        execute(tmp_path, "UPDATE betanas_leases SET expires = ?", time.time() - 1)
        assert leases.claim("trial/1") is not None


# -- one lease ----------------------------------------------------------------------------------


def test_renewing(leases: Leases, tmp_path: Path) -> None:
    lease = leases.claim("trial/1")
    assert lease is not None
    execute(tmp_path, "UPDATE betanas_leases SET expires = 5")
    before = time.time()
    assert leases.renew(lease)
    ((expires,),) = execute(tmp_path, "SELECT expires FROM betanas_leases")
    assert before <= float(str(expires)) - LEASE_SECONDS <= time.time()


def test_a_lease_that_changed_hands_cannot_be_renewed(leases: Leases, tmp_path: Path) -> None:
    lease = leases.claim("trial/1")
    assert lease is not None
    give_to_another_machine(tmp_path, expires=1.0)
    again = leases.claim("trial/1")
    assert again is not None
    assert (again.token, again.attempts) == (lease.token + 1, 1)
    assert not leases.renew(lease)
    leases.release(lease)
    assert leases.renew(again)


def test_resources_are_apart(leases: Leases) -> None:
    one, other = leases.claim("trial/1"), leases.claim("trial/2")
    assert one is not None
    assert other is not None
    assert (one.resource, other.resource) == ("trial/1", "trial/2")
    assert leases.renew(one)
    assert leases.renew(other)
