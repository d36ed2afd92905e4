"""The main job, end to end: real searches, real trainings, real processes killed."""

import os
import signal
import socket
import sqlite3
import time
import urllib.request
from pathlib import Path

import pytest
from command import (
    TINY,
    ask,
    ask_json,
    descendants,
    is_alive,
    run,
    start,
    wait_for,
    write_study,
)
from faults import AcknowledgedLog, fail_at, start_process

from betanas.database.stored import StoredStudy
from betanas.jobs.optimize import SearchOptions, optimize
from betanas.study.loading import load_definition

pytestmark = pytest.mark.slow

FIELDS = {
    "number", "state", "phase", "value", "reason", "parameters", "num_params", "macs",
    "activation_bytes", "fingerprint", "train_seconds", "epochs",
}  # fmt: skip


def trials(folder: Path, study: str = "tiny.toml") -> list[dict]:
    return ask_json(folder, "trials", "--study", study)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which the tiny study has run to its end, undisturbed."""
    folder = tmp_path_factory.mktemp("finished")
    write_study(folder)
    (folder / "tmp").mkdir()
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("TMPDIR", str(folder / "tmp"))
        out, err = run(folder, "optimize", "--study", "tiny.toml")
    assert "best: trial" in err
    assert "betanas best --study tiny.toml" in err
    assert "CNA" in out
    return folder


def test_a_study_runs_to_its_target(finished: Path) -> None:
    status = ask_json(finished, "status", "--study", "tiny.toml")
    assert status["study"] == "tiny"
    assert status["feasible"] == status["trials"]["complete"] == status["target"] == 7
    assert status["trials"]["running"] == status["trials"]["waiting"] == 0
    assert status["trials"]["pruned"] == sum(status["rejected"].values())

    rows = trials(finished)
    assert [row["number"] for row in rows] == list(range(len(rows)))
    assert all(row.keys() >= FIELDS for row in rows)
    complete = [row for row in rows if row["state"] == "complete"]
    assert status["best"]["value"] == max(row["value"] for row in complete)
    for row in complete:
        assert 0 < row["value"] <= 1
        assert row["num_params"] <= 12_000
        audit = row["audit"]
        assert audit["steps"] == 4
        assert audit["images"] == 4 * 32
        assert audit["ranks"] == 1
        assert row["train_seconds"] > audit["data_wait_seconds"] > 0
        assert [e["steps"] for e in audit["history"]] == [1, 2, 3, 4]


def test_no_trial_leaves_a_folder_behind(finished: Path) -> None:
    left = {path.name for path in (finished / "tmp").iterdir()}
    assert all(name.startswith("torchinductor_") for name in left)  # torch's own, one a user


def test_no_proposal_after_the_sobol_phase_is_rejected(finished: Path) -> None:
    rows = trials(finished)
    proposed = [row for row in rows if row["phase"] != "sobol"]
    assert proposed
    assert all(row["state"] == "complete" for row in proposed)


def test_every_network_may_spend_the_same_multiply_adds(tmp_path: Path) -> None:
    write_study(tmp_path, text=TINY.replace("steps = 4", "macs = 5e7"))
    run(tmp_path, "optimize", "--study", "tiny.toml", "--trials", "4")
    complete = [row for row in trials(tmp_path) if row["state"] == "complete"]
    assert len({row["macs"] for row in complete}) > 1
    for row in complete:
        spent, step = row["audit"]["images"] * row["macs"], 32 * row["macs"]
        assert 5e7 <= spent < 5e7 + step  # a step that has begun is finished


def test_a_finished_study_stays_as_it_is(finished: Path) -> None:
    before = trials(finished)
    run(finished, "optimize", "--study", "tiny.toml")
    assert trials(finished) == before


def test_the_best_kernels_are_shown_and_described(finished: Path) -> None:
    best = ask_json(finished, "best", "--study", "tiny.toml")
    assert best["recommended"]["predicted_std"] >= 0
    assert set(best["recommended"]["parameters"]) == set(best["observed"]["parameters"])
    number = best["observed"]["number"]
    described = ask_json(finished, "describe", "--study", "tiny.toml", "--best")
    row = trials(finished)[number]
    assert described["fingerprint"] == row["fingerprint"]
    assert described["num_params"] == row["num_params"]
    assert described["activation_bytes"] == row["activation_bytes"]


def test_kill_9_in_mid_trial_loses_and_repeats_nothing(finished: Path, tmp_path: Path) -> None:
    write_study(tmp_path)
    folders = tmp_path / "storage" / "tiny"
    for begun in (1, 3):  # trainings that have begun when the search is killed
        process = start(tmp_path, "optimize", "--study", "tiny.toml")
        wait_for(lambda n=begun: len(list(folders.glob("*/agent.pid"))) >= n)
        below = descendants(process.pid)
        assert below
        process.kill()
        process.communicate()
        wait_for(lambda pids=below: not any(map(is_alive, pids)), seconds=60)
    run(tmp_path, "optimize", "--study", "tiny.toml")
    for ours, theirs in zip(trials(tmp_path), trials(finished), strict=True):
        for key in ("state", "phase", "value", "parameters", "fingerprint"):
            assert ours[key] == theirs[key], (ours["number"], key)


def test_a_result_that_was_not_recorded_is_not_trained_again(tmp_path: Path) -> None:
    definition = load_definition(write_study(tmp_path))
    url = f"sqlite:///{tmp_path}/storage/tiny.db"
    log = tmp_path / "log"
    run_killed = start_process(
        lambda: optimize(definition, url, SearchOptions("cpu", 1, 1), AcknowledgedLog(log)),
        prepare=fail_at(StoredStudy, "finish", 1, after=False),
    )
    run_killed.join(120)
    assert run_killed.exitcode == -signal.SIGKILL
    result = tmp_path / "storage" / "tiny" / "00000" / "result.json"
    written = result.stat().st_mtime_ns
    run(tmp_path, "optimize", "--study", "tiny.toml", "--trials", "1")
    assert [row["state"] for row in trials(tmp_path)] == ["complete"]
    assert result.stat().st_mtime_ns == written


def test_interrupting_gives_the_trial_back(tmp_path: Path) -> None:
    write_study(tmp_path, text=TINY.replace("steps = 4", "seconds = 60"))
    process = start(tmp_path, "optimize", "--study", "tiny.toml")
    wait_for(lambda: list((tmp_path / "storage" / "tiny").glob("*/rank-0.beat")))
    below = descendants(process.pid)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=180)
    assert process.returncode == 130
    assert "Traceback" not in err
    wait_for(lambda: not any(map(is_alive, below)), seconds=60)
    assert ask_json(tmp_path, "status", "--study", "tiny.toml")["trials"]["running"] == 1


def test_a_trial_whose_rank_is_killed_three_times_fails_and_the_search_goes_on(
    tmp_path: Path,
) -> None:
    write_study(tmp_path, text=TINY.replace("steps = 4", "seconds = 3"))
    process = start(tmp_path, "optimize", "--study", "tiny.toml", "--trials", "2")
    folder = tmp_path / "storage" / "tiny"
    beat = wait_for(lambda: list(folder.glob("*/rank-0.beat")))[0]
    killed: set[int] = set()
    for _ in range(3):

        def ranks() -> list[int]:
            """Of the next attempt, once they train."""
            pid = beat.parent / "agent.pid"
            agent = int(pid.read_text() or 0) if pid.exists() and beat.exists() else 0
            return [] if agent in killed or not agent else [agent, *descendants(agent)]

        agent, *below = wait_for(lambda: len(found := ranks()) > 1 and found)
        killed.add(agent)
        for rank in below:
            os.kill(rank, signal.SIGKILL)
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0, out + err
    rows = trials(tmp_path)
    assert len(rows) == 2
    failed = [row for row in rows if row["state"] == "fail"]
    assert [row["reason"] for row in failed] == ["killed"]
    assert "3 times" in failed[0]["audit"]["message"]
    assert ask_json(tmp_path, "status", "--study", "tiny.toml")["failed"] == {"killed": 1}


def test_diverging_trainings_end_a_hopeless_search(tmp_path: Path) -> None:
    hopeless = TINY.replace("batch_size = 32", "batch_size = 32\nlearning_rate = 1e30")
    write_study(tmp_path, text=hopeless.replace("steps = 4", "steps = 20"))
    _, err = run(tmp_path, "optimize", "--study", "tiny.toml", code=1)
    assert "diverged" in err.splitlines()[-1]
    assert "Traceback" not in err
    rows = trials(tmp_path)
    assert {row["reason"] for row in rows if row["state"] == "fail"} == {"diverged"}


def test_another_meaning_is_refused_by_name(finished: Path) -> None:
    before = trials(finished)
    _, err = ask(
        finished, "optimize", "--study", "tiny.toml", "--set", "recipe.batch_size=16", code=2
    )
    assert "recipe.batch_size (32 -> 16)" in err
    assert trials(finished) == before


def test_another_number_of_ranks_is_refused_with_the_cure(finished: Path) -> None:
    before = trials(finished)
    two = ("--device", "cpu", "--nproc-per-node", "2", "--trials", "1")
    _, err = ask(finished, "optimize", "--study", "tiny.toml", *two, code=2)
    assert "go on with --device cpu --nproc-per-node 1" in err
    assert trials(finished) == before


def test_two_ranks_search_on_real_pictures(pictures: Path, tmp_path: Path) -> None:
    run(
        tmp_path, "optimize", "--study", "pictures", "--data", str(pictures),
        "--nproc-per-node", "2", "--trials", "2", "--set", "budget.steps=2",
        "--set", "recipe.batch_size=16", "--set", "limits.num_params=200_000",
    )  # fmt: skip
    rows = trials(tmp_path, "pictures")
    assert len(rows) == 2
    for row in rows:
        if row["state"] == "complete":
            assert row["audit"]["ranks"] == 2
            assert row["audit"]["images"] == 2 * 2 * 16


def test_the_dashboard_reads_while_a_search_writes(tmp_path: Path) -> None:
    write_study(tmp_path)
    run(tmp_path, "optimize", "--study", "tiny.toml", "--trials", "1")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    dashboard = start(tmp_path, "dashboard", "--study", "tiny.toml", "--port", str(port))
    search = start(tmp_path, "optimize", "--study", "tiny.toml")
    try:
        url = f"http://127.0.0.1:{port}/api/studies"

        def answers() -> bytes:
            try:
                with urllib.request.urlopen(url, timeout=5) as answer:
                    return answer.read()
            except OSError:
                return b""

        assert b"tiny" in wait_for(answers)
        while search.poll() is None:
            assert b"tiny" in answers()
            time.sleep(0.2)
        out, err = search.communicate()
        assert search.returncode == 0, out + err
    finally:
        dashboard.kill()  # wsgiref swallows a Ctrl-C that comes during a request
        dashboard.communicate(timeout=180)
    journal = sqlite3.connect(tmp_path / "storage" / "tiny.db").execute("PRAGMA journal_mode")
    assert journal.fetchone() == ("wal",)
