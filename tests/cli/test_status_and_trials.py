"""``betanas status`` and ``betanas trials``, and where they look for the database."""

import csv
import io
import math
import shutil
import sqlite3
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import optuna
import pytest
from calls import invoke, invoke_json, run, run_json
from generated import generated_records, settings_of, write_database

from betanas.architecture.complexity import count
from betanas.architecture.decoding import decode
from betanas.architecture.families import FAMILIES
from betanas.jobs.load import storage_url
from betanas.search.warm_start import WarmStart
from betanas.study.loading import load_definition


def test_status(begun: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = run_json(begun, "status", "--study", "mine.toml")
    assert found["study"] == "mine"
    assert found["trials"] == {"complete": 3, "pruned": 1, "fail": 1, "running": 1, "waiting": 0}
    assert found["rejected"] == {"num_params": 1}
    assert found["failed"] == {"diverged": 1}
    assert (found["sobol"], found["feasible"], found["target"]) == (5, 3, 200)
    assert found["best"] == {"number": 4, "value": 0.875}
    assert found["warnings"] == ["trial 3 waited for data in 50% of its training time"]
    assert "warm_start" not in found
    monkeypatch.chdir(begun)
    ended = invoke("status", "--study", "mine.toml")
    assert "3 of 200" in ended.out
    assert "87.50 %" in ended.out
    assert ended.err == "warning: trial 3 waited for data in 50% of its training time\n"


@pytest.mark.slow
def test_the_study_that_it_began_from(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "storage").mkdir()
    definition = load_definition("digits")
    settings = settings_of(definition, tuple("0123456789"))
    old = [r for r in generated_records(definition, settings, 60, seed=1) if r.value is not None]
    kernels = tuple(record.parameters for record in old)
    told = WarmStart("elder", kernels, tuple(r.value for r in old), opening=kernels[:2])
    settings = replace(settings, warm_start=told.to_json())
    records = generated_records(definition, settings, 30)
    file = tmp_path / "storage" / "digits.db"
    write_database(file, definition, settings, records).disconnect()
    found = invoke_json("status", "--study", "digits")["warm_start"]
    assert found == {
        "study": "elder", "kernels": len(old), "tried_first": 2, "weight": found["weight"],
    }  # fmt: skip
    assert found["weight"] > 0.2, "both studies have the same landscape"
    assert invoke_json("best", "--study", "digits")["warm_start"] == found
    line = (
        f"from elder: {len(old)} of its trials are known, 2 of their kernels were tried first; "
        f"its guess has weight {found['weight']:.2f}\n"
    )
    assert f"begun     {line}" in invoke("status", "--study", "digits").out
    assert f"begun        {line}" in invoke("best", "--study", "digits").out


def test_trials(begun: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(begun)
    found = invoke_json("trials", "--study", "mine.toml")
    assert [row["number"] for row in found] == list(range(6))
    states = ["complete", "pruned", "fail", "complete", "complete", "running"]
    assert [row["state"] for row in found] == states
    assert [row["value"] for row in found] == [0.5, None, None, 0.25, 0.875, None]
    assert [row["reason"] for row in found] == [None, "num_params", "diverged", None, None, None]
    first = found[0]
    assert first.keys() >= {
        "number", "state", "phase", "value", "reason", "parameters", "num_params", "macs",
        "activation_bytes", "fingerprint", "train_seconds", "epochs",
    }  # fmt: skip
    assert (first["phase"], first["train_seconds"], first["epochs"]) == ("sobol", 4.0, 1.5)
    architecture = decode(FAMILIES["betanet2"], first["parameters"], 16, 10)
    assert first["fingerprint"] == architecture.fingerprint
    assert first["num_params"] == count(architecture, 100).num_params


def test_trials_as_csv(begun: Path) -> None:
    ended = run(begun, "trials", "--study", "mine.toml", "--csv")
    assert (ended.code, ended.err) == (0, "")
    rows = list(csv.DictReader(io.StringIO(ended.out)))
    assert [row["number"] for row in rows] == list("012345")
    assert [row["value"] for row in rows] == ["0.5", "", "", "0.25", "0.875", ""]
    assert set(rows[0]) >= {*FAMILIES["betanet2"].names, "phase", "fingerprint", "macs"}
    assert float(rows[0]["k"]) == 2.5


def test_trials_for_people(begun: Path) -> None:
    ended = invoke(
        "trials", "--study", f"{begun}/mine.toml", "--storage", f"sqlite:///{begun}/storage/mine.db"
    )
    lines = [line.split() for line in ended.out.splitlines()]
    assert lines[0][:4] == ["trial", "state", "phase", "accuracy"]
    assert lines[1][:5] == ["0", "complete", "sobol", "50.00", "%"]
    assert lines[2][:3] == ["1", "pruned", "sobol"]
    assert lines[2][-1] == "num_params"


def test_where_the_database_is(begun: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("BETANAS_STORAGE", raising=False)
    plain, own = (
        load_definition("digits"),
        load_definition("digits", ['storage.url="sqlite:///file.db"']),
    )
    assert storage_url(plain, None) == "sqlite:///storage/digits.db"
    assert storage_url(own, None) == "sqlite:///file.db"
    monkeypatch.setenv("BETANAS_STORAGE", "sqlite:///environment.db")
    assert storage_url(own, None) == "sqlite:///environment.db"
    assert storage_url(own, "sqlite:///option.db") == "sqlite:///option.db"
    elsewhere = {"BETANAS_STORAGE": f"sqlite:///{begun}/storage/mine.db"}
    ended = run(begun.parent, "status", "--study", f"{begun}/mine.toml", environment=elsewhere)
    assert (ended.code, "3 of 200" in ended.out) == (0, True)


def test_values_that_are_none_are_no_best(
    begun: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another program's infinite values, and its complete trials without any."""
    shutil.copytree(begun, tmp_path / "foreign")
    monkeypatch.chdir(tmp_path / "foreign")
    theirs = optuna.load_study(study_name="mine", storage="sqlite:///storage/mine.db")
    example = theirs.trials[0]
    for value in (math.inf, -math.inf, 0.25):
        theirs.add_trial(
            optuna.trial.create_trial(
                value=value, params=example.params, distributions=example.distributions
            )
        )
    with closing(sqlite3.connect("storage/mine.db")) as connection, connection:
        last = connection.execute("SELECT max(trial_id) FROM trials").fetchone()
        connection.execute("DELETE FROM trial_values WHERE trial_id = ?", last)
    found = invoke_json("status", "--study", "mine.toml")
    assert found["best"] == {"number": 4, "value": 0.875}
    assert found["trials"]["complete"] == 6
    assert [row["value"] for row in invoke_json("trials", "--study", "mine.toml")[6:]] == [None] * 3
    assert invoke_json("best", "--study", "mine.toml")["observed"]["number"] == 4
    assert invoke("cluster", "--study", "mine.toml", "--clusters", "2").code == 0
    shown = invoke("trials", "--study", "mine.toml").out
    assert "inf" not in shown
