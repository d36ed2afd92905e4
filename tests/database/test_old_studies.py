"""Studies of every version open; those of a later one are refused with the cure."""

import json
import shutil
import socket
import sqlite3
from pathlib import Path

import pytest
from command import ask, ask_json, run

pytestmark = pytest.mark.slow

OLD = Path(__file__).parents[1] / "old"
VERSIONS = sorted(path.stem for path in OLD.glob("*.db"))
SAME = ("number", "state", "phase", "value", "reason", "parameters", "num_params", "fingerprint")


@pytest.fixture(params=VERSIONS)
def old(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A folder with a study that an earlier version ran."""
    (tmp_path / "storage").mkdir()
    shutil.copy(OLD / f"{request.param}.db", tmp_path / "storage" / "tiny.db")
    shutil.copy(OLD / f"{request.param}.toml", tmp_path / "tiny.toml")
    shutil.copy(OLD / f"{request.param}.json", tmp_path / "told.json")
    return tmp_path


def test_an_old_study_is_read_and_goes_on(old: Path) -> None:
    told = json.loads((old / "told.json").read_text())
    rows = ask_json(old, "trials", "--study", "tiny.toml")
    assert [{k: row[k] for k in SAME} for row in rows] == [{k: t[k] for k in SAME} for t in told]
    status = ask_json(old, "status", "--study", "tiny.toml")
    assert status["feasible"] == status["target"] == 7
    best = ask_json(old, "best", "--study", "tiny.toml")
    assert best["observed"]["value"] == max(t["value"] for t in told if t["value"] is not None)
    assert best["recommended"] is not None
    run(old, "optimize", "--study", "tiny.toml", "--device", "cpu", "--trials", "1")
    more = ask_json(old, "trials", "--study", "tiny.toml")
    assert len(more) == len(rows) + 1
    assert more[-1]["state"] == "complete"
    assert more[-1]["phase"] == "gp", "it has learnt from the trials of the old version"
    looks = [[e["steps"] for e in t["audit"]["history"]] for t in (told[0], more[-1])]
    assert looks[0] == looks[1], "its recipe is evaluated as it was then"


def test_an_old_study_goes_on_with_its_own_number_of_ranks(old: Path) -> None:
    two = ("--device", "cpu", "--nproc-per-node", "2", "--trials", "1")
    _, err = ask(old, "optimize", "--study", "tiny.toml", *two, code=2)
    assert "trains with 1 rank on cpu, and 2 ranks on cpu would change" in err
    assert "--device cpu --nproc-per-node 1" in err


@pytest.mark.parametrize("command", ["status", "trials", "best", "optimize"])
def test_a_newer_study_is_refused_with_the_cure(old: Path, command: str) -> None:
    with sqlite3.connect(old / "storage" / "tiny.db") as database:
        ((settings,),) = database.execute(
            "SELECT value_json FROM study_user_attributes WHERE key = 'betanas'"
        )
        newer = json.loads(settings) | {"schema": 99, "a key of the future": 1}
        database.execute(
            "UPDATE study_user_attributes SET value_json = ? WHERE key = 'betanas'",
            (json.dumps(newer),),
        )
    database.close()
    _, err = ask(old, command, "--study", "tiny.toml", code=2)
    assert "written by a newer BetaNAS (schema 99" in err
    assert "upgrade: pip install --upgrade betanas" in err
    assert "Traceback" not in err


def test_the_fixtures_say_nothing_of_the_machine() -> None:
    assert VERSIONS
    for path in OLD.glob("[0-9]*"):
        content = path.read_bytes()
        for told in (b"/home/", b"/root", b"/tmp/", b"/work/", f"{socket.gethostname()}|".encode()):
            assert told not in content, (path, told)
