"""A study in a notebook, and an import that costs nothing."""

import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
from generated import generate_database

import betanas
from betanas.errors import InputError, StorageError
from betanas.jobs import load as loaded


def test_a_study_as_a_dataframe(tmp_path: Path) -> None:
    pytest.importorskip("pandas", reason="pip install 'betanas[pandas]'")
    generate_database(tmp_path / "study.db", 12)
    study = betanas.load_study("betanet2", f"sqlite:///{tmp_path}/study.db")
    frame = study.dataframe()
    assert frame.index.name == "number"
    assert len(frame) == len(study.records()) == 12
    assert list(frame["k"]) == [r.parameters["k"] for r in study.records()]
    complete = frame[frame["state"] == "complete"]
    assert complete["value"].max() == study.best().value
    assert complete["value"].idxmax() == study.best().number
    assert (complete["device"] == "made up").all()
    assert complete["data_wait_seconds"].dtype == float


def test_a_study_that_has_not_begun_is_a_clear_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="has no study betanet2"):
        betanas.load_study("betanet2", f"sqlite:///{tmp_path}/none.db")


def test_a_study_that_ships_with_its_trials_works_at_once(tmp_path: Path, monkeypatch) -> None:
    (tmp_path / "shipped").mkdir()
    generate_database(tmp_path / "made.db", 8)
    with sqlite3.connect(tmp_path / "made.db") as made:
        made.execute("VACUUM INTO ?", [str(tmp_path / "shipped" / "betanet2.db")])
    monkeypatch.setattr(loaded, "RECORDED", tmp_path / "shipped")
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("BETANAS_STORAGE", raising=False)
    assert len(betanas.load_study("betanet2").records()) == 8
    assert (tmp_path / "storage" / "betanet2.db").exists()
    assert len(betanas.load_study("betanet2").records()) == 8


def test_a_database_of_an_older_study_of_that_name_is_a_clear_error(tmp_path: Path) -> None:
    generate_database(tmp_path / "study.db", 8)
    other = tmp_path / "betanet2.toml"
    other.write_text(
        'family = "betanet3"\nresolution = 32\n[dataset]\nname = "digits"\n[budget]\nsteps = 1\n'
    )
    with pytest.raises(
        StorageError, match=r"begun with family betanet2.* betanet3; .*study\.db away"
    ):
        betanas.load_study(str(other), f"sqlite:///{tmp_path}/study.db")


def test_importing_betanas_imports_nothing_heavy() -> None:
    code = (
        "import sys, betanas; betanas.__version__\n"
        "heavy = {'torch', 'optuna', 'matplotlib', 'sklearn', 'pandas', 'pydantic', 'numpy'}\n"
        "assert not heavy & set(sys.modules), heavy & set(sys.modules)\n"
        "assert not hasattr(betanas, 'nothing')"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
