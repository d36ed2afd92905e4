"""Several workers of one study on one machine: real processes, interrupted and killed."""

import json
import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from command import TINY, ask_json, descendants, is_alive, run, start, wait_for, write_study
from faults import PostgresServer, find_postgres

from betanas.cores import available_cores
from betanas.jobs.workers import worthwhile

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(available_cores() < 2, reason="two workers need two processor cores"),
]
TWO = ("optimize", "--study", "tiny.toml", "--device", "cpu", "--workers", "2")
LONG = TINY.replace("steps = 4", "seconds = 60")


def children(pid: int) -> list[int]:
    """Processes that one has started itself."""
    told = Path(f"/proc/{pid}/task/{pid}/children")
    return [int(child) for child in told.read_text().split()] if told.exists() else []


def beats(folder: Path) -> list[Path]:
    """Of trials that train."""
    return list((folder / "storage").glob("tiny*/*/rank-0.beat"))


@pytest.fixture(scope="module")
def postgres() -> Iterator[PostgresServer]:
    binaries = find_postgres()
    if binaries is None:
        pytest.skip("no PostgreSQL binaries here (Debian: apt-get install postgresql)")
    with PostgresServer(binaries) as server:
        yield server


@pytest.mark.parametrize("database", ["sqlite", "postgresql"])
def test_two_workers_share_a_study_and_meet_its_target_exactly(
    database: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    url = f"sqlite:///{tmp_path}/storage/tiny.db"
    if database == "postgresql":
        url = request.getfixturevalue("postgres").url
    write_study(tmp_path)
    out, err = run(tmp_path, *TWO, "--storage", url, "--json")
    assert json.loads(out) == ask_json(tmp_path, "status", "--study", "tiny.toml", "--storage", url)
    assert err.count("study tiny begins: 0 of 7 trials") == 1
    assert "2 workers with" in err
    assert err.count("images: decoded") == 1
    rows = ask_json(tmp_path, "trials", "--study", "tiny.toml", "--storage", url)
    assert [row["number"] for row in rows] == list(range(len(rows)))
    complete = [row for row in rows if row["state"] == "complete"]
    assert len(complete) == 7, "nobody began a trial that was not wanted"
    assert len({row["audit"]["worker"] for row in rows}) == 2
    for row in complete:
        assert row["audit"]["workers"] == 2
        assert row["audit"]["cores"] == available_cores() // 2
        assert err.count(f"trial {row['number']:>4} ") == 1
    assert [row["phase"] for row in rows].index("gp") >= 6

    _, err = run(tmp_path, *TWO, "--storage", url, "--trials", "3")
    assert len(ask_json(tmp_path, "trials", "--study", "tiny.toml", "--storage", url)) == (
        len(rows) + 3
    )


@pytest.mark.parametrize("strike", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_workers_end_with_their_controller(strike: signal.Signals, tmp_path: Path) -> None:
    write_study(tmp_path, text=LONG)
    process = start(tmp_path, *TWO)
    wait_for(lambda: len(beats(tmp_path)) == 2)
    below = descendants(process.pid)
    assert len(below) >= 6, "two workers, each with a trainer, and all that train"
    process.send_signal(strike)
    _, err = process.communicate(timeout=180)
    wait_for(lambda: not any(map(is_alive, below)), seconds=60)
    assert "Traceback" not in err
    assert ask_json(tmp_path, "status", "--study", "tiny.toml")["trials"]["running"] == 2
    if strike is signal.SIGKILL:
        return
    assert process.returncode == 130
    assert err.endswith("interrupted; the same command goes on from here\n")
    with sqlite3.connect(tmp_path / "storage" / "tiny.db") as database:
        asked = "SELECT expires FROM betanas_leases WHERE resource LIKE 'trial/%'"
        ends = [row[0] for row in database.execute(asked)]
    assert ends.count(0.0) >= 2, "both were given back in good order"


def test_a_killed_worker_is_replaced_and_loses_nothing(tmp_path: Path) -> None:
    write_study(tmp_path, text=TINY.replace("steps = 4", "seconds = 2"))
    process = start(tmp_path, *TWO, "--set", "search.trials=4")
    wait_for(lambda: len(beats(tmp_path)) >= 2)
    before = children(process.pid)
    assert len(before) == 2
    os.kill(before[0], signal.SIGKILL)
    _, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    assert err.count("worker 1 was ended by SIGKILL; another one takes its place") == 1
    status = ask_json(tmp_path, "status", "--study", "tiny.toml", "--set", "search.trials=4")
    assert (status["feasible"], status["trials"]["running"], status["failed"]) == (4, 0, {})


def test_what_one_worker_cannot_go_on_with_ends_all_in_one_line(tmp_path: Path) -> None:
    hopeless = TINY.replace("batch_size = 32", "batch_size = 32\nlearning_rate = 1e30")
    write_study(tmp_path, text=hopeless.replace("steps = 4", "steps = 20"))
    _, err = run(tmp_path, *TWO, code=1)
    assert err.splitlines()[-1].startswith("error: ")
    assert "trainings failed and none succeeded" in err
    assert err.count("error: ") == 1
    assert "Traceback" not in err


CUT_OFF = """
import os, signal, sys, time
from multiprocessing import get_context
from multiprocessing.util import Finalize

from betanas.jobs.crew import _run_worker


def is_told(relay, team):
    try:
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(60)
    finally:
        raise OSError("cut off")


def is_told_too_late(relay, team):
    Finalize(None, os.kill, args=(os.getpid(), signal.SIGTERM), exitpriority=0)



fork = get_context("fork")
job = (fork.Pipe()[1], [], 2, os.getpid(), globals()[sys.argv[1]])
process = fork.Process(target=_run_worker, args=job)
process.start()
process.join()
sys.exit(process.exitcode)
"""


@pytest.mark.parametrize(
    ("work", "code"), [("is_told", 128 + signal.SIGTERM), ("is_told_too_late", 0)]
)
def test_a_worker_that_is_told_to_end_ends_without_a_traceback(work: str, code: int) -> None:
    command = [sys.executable, "-W", "ignore", "-c", CUT_OFF, work]
    ran = subprocess.run(command, check=False, capture_output=True, text=True)
    assert (ran.returncode, ran.stderr) == (code, "")


GRADIENTS_FIRST = """
import torch

import betanas

model = torch.nn.Linear(1, 1)
torch.export.export(model, (torch.ones(1, 1),))  # gradients are computed in threads from now on
model(torch.ones(1, 1)).sum().backward()
try:
    betanas.optimize("tiny.toml", device="cpu", workers=2)
except betanas.BetaNASError as error:
    print(error)
"""


def test_forks_that_cannot_compute_gradients_say_so(tmp_path: Path) -> None:
    write_study(tmp_path)
    told = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", GRADIENTS_FIRST],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    assert "begin with them in a new process" in told.stdout


@pytest.mark.parametrize(
    ("rates", "most", "workers"),
    [
        ({1: 1300, 2: 1200}, 2, 2),
        ({1: 1900, 2: 1000}, 2, 1),
        ({1: 4000, 2: 3000, 4: 2000, 8: 1050}, 8, 4),
        ({1: 4000, 2: 3900, 4: 3800}, 7, 4),
        ({}, 8, 1),
        ({1: 1000}, 1, 1),
    ],
)
def test_auto_takes_as_many_workers_as_are_worth_it(
    rates: dict[int, float], most: int, workers: int
) -> None:
    assert worthwhile(rates.get, most) == workers
