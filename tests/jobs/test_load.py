"""A study in a notebook, and an import that costs nothing."""

import re
import shlex
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
from command import ask
from generated import generate_database, generated_records, settings_of, write_database

import betanas
from betanas.architecture.decoding import decode
from betanas.database.connect import sqlite_file
from betanas.errors import InputError, StorageError
from betanas.jobs import load as loaded
from betanas.jobs.model_names import plan_training
from betanas.jobs.train import TrainOptions
from betanas.study.loading import load_definition


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


def test_what_begins_it_can_be_pasted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A study is named by its file, not by a built-in one's name."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("BETANAS_STORAGE", raising=False)
    file = tmp_path / "my studies" / "digits.toml"
    file.parent.mkdir()
    file.write_text(
        'family = "betanet3"\nresolution = 32\n[dataset]\nname = "digits"\n[budget]\nsteps = 1\n'
    )
    for storage in None, "sqlite:///a b.db":
        with pytest.raises(StorageError, match="has no study digits; begin it with: ") as told:
            betanas.load_study(file, storage)
        begin = shlex.split(str(told.value).partition("begin it with: ")[2])
        wanted = ["betanas", "optimize", "--study", str(file)]
        assert begin == wanted + ([] if storage is None else ["--storage", storage])


@pytest.mark.parametrize("name", ["plain", "a b", "what?", "50%", "%41", "a#b", "ü:@"])
def test_every_name_has_a_file_of_its_own(name: str) -> None:
    assert sqlite_file(loaded.default_url(name)) == Path("storage") / f"{name}.db"


def test_a_study_is_read_as_it_has_begun(tmp_path: Path) -> None:
    """Its trials were of another resolution and range than its file says."""
    url = f"sqlite:///{tmp_path}/own.db"
    begun = load_definition("digits", ["resolution=24", "parameters.K=[2, 3]"])
    settings = settings_of(begun, tuple("0123456789"))
    trials = generated_records(begun, settings, 12)
    write_database(tmp_path / "own.db", begun, settings, trials)

    study = betanas.load_study("digits", url)
    assert study.definition.meaning() == begun.meaning()
    best = study.best()
    assert best is not None
    trained = decode(begun.search_family, trials[best.number].kernel, 24, 10)
    assert best.architecture == trained
    assert "resolution = 24 (its file: 16)" in study.note
    plan = plan_training("digits:best", TrainOptions(storage=url))
    assert (plan.network, plan.note) == (best.architecture, study.note)

    larger = betanas.load_study("digits", url, {"resolution": 32}).best()
    assert larger is not None
    assert larger.architecture.resolution == 32
    assert plan_training("digits:best", TrainOptions(storage=url, resolution=32)).network == (
        larger.architecture
    )

    shown = ("describe", "--study", "digits", "--best", "--storage", url)
    out, err = ask(tmp_path, *shown)
    assert f"fingerprint {trained.fingerprint}" in " ".join(out.split())
    assert f"note: {study.note}" in " ".join(err.split())
    as_told = ("--set", "resolution=24", "--set", "parameters.K=[2, 3]")
    assert ask(tmp_path, *shown, *as_told) == (out, "")


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
    url = f"sqlite:///{tmp_path}/study.db"
    refused = r"begun with family betanet2.* betanet3; .* or --set (\S+), .*study\.db away"
    with pytest.raises(StorageError, match=refused) as told:
        betanas.load_study(str(other), url)
    cure = re.search(refused, str(told.value))
    assert cure is not None
    assert betanas.load_study(str(other), url, [cure[1]]).definition.family == "betanet2"


def test_importing_betanas_imports_nothing_heavy() -> None:
    code = (
        "import sys, betanas; betanas.__version__\n"
        "heavy = {'torch', 'optuna', 'matplotlib', 'sklearn', 'pandas', 'pydantic', 'numpy'}\n"
        "assert not heavy & set(sys.modules), heavy & set(sys.modules)\n"
        "assert not hasattr(betanas, 'nothing')"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
