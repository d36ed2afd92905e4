"""One-shot studies end to end: a supernet, then the network that it has chosen."""

import csv
from dataclasses import replace
from pathlib import Path

import optuna
import pytest
from command import ask_json, descendants, is_alive, run, start, wait_for

from betanas.architecture.supernet import network_text
from betanas.errors import StudyFileError
from betanas.files import read_json
from betanas.launcher.client import TrainerServer
from betanas.study.loading import load_definition
from betanas.trial import TrialTask

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

SUPERNET = Path("storage", "tiny", "00000-supernet")

STUDY = """
family = "mbconv"
resolution = 16
parameters = { stem = 1, stages = 1, blocks = 2, width = 0.25, tail = 16, head = 16 }
dataset = { name = "digits" }
recipe = { preset = "fast", batch_size = 32, evaluations = 4, precision = "float32" }
oneshot = { latency_weight = 50, gate_learning_rate = 0.2, budget = { steps = 40 } }
budget = { steps = 4 }
search = { strategy = "one-shot", trials = 1 }
"""


def write_study(folder: Path) -> None:
    folder.mkdir(exist_ok=True)
    (folder / "tiny.toml").write_text(STUDY, encoding="utf-8")


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A study whose first worker was killed, with all its processes, in mid-supernet."""
    folder = tmp_path_factory.mktemp("finished")
    write_study(folder)
    process = start(folder, "optimize", "--study", "tiny.toml", "--device", "cpu")
    wait_for((folder / SUPERNET / "rank-0.beat").exists, seconds=240)
    below = descendants(process.pid)
    process.kill()
    process.communicate()
    wait_for(lambda: not any(map(is_alive, below)), seconds=60)
    run(folder, "optimize", "--study", "tiny.toml", "--device", "cpu")
    return folder


def test_the_chosen_network_is_a_trial_like_any_other(finished: Path) -> None:
    (row,) = ask_json(finished, "trials", "--study", "tiny.toml")
    assert (row["state"], row["phase"]) == ("complete", "one-shot")
    supernet = row["audit"]["supernet"]
    assert list(supernet["choices"]) == ["s1b1", "s1b2"]
    assert {name: row["parameters"][name] for name in supernet["choices"]} == supernet["choices"]
    assert len(supernet["history"]) == 4
    assert set(supernet["history"][-1]["gates"]["s1b2"]) == {"kernel", "expansion", "presence"}
    assert row["audit"]["latency"]["p50_ms"] > 0
    assert row["audit"]["steps"] == 4
    best = ask_json(finished, "best", "--study", "tiny.toml")
    assert best["observed"]["number"] == 0
    described = ask_json(finished, "describe", "--study", "tiny.toml", "--best")
    assert described["fingerprint"] == row["fingerprint"]


def test_the_report_shows_how_the_supernet_came_to_its_network(finished: Path) -> None:
    ask_json(finished, "report", "--study", "tiny.toml", "--output", "report")
    (row,) = ask_json(finished, "trials", "--study", "tiny.toml")
    last = row["audit"]["supernet"]["history"][-1]
    report = finished / "report"
    page = (report / "report.html").read_text(encoding="utf-8")
    assert '<section id="supernet">' in page
    for name in ("supernets", "supernet_gates"):
        assert (report / "figures" / f"{name}.svg").exists()
        assert f'aria-label="{name.replace("_", " ")}"' in page
    assert f"s1b2: {last['choices']['s1b2']}" in page
    with (report / "supernets.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [int(r["steps"]) for r in rows] == [10, 20, 30, 40]
    assert float(rows[-1]["runtime_ms"]) == last["runtime_ms"]
    assert rows[-1]["network"] == network_text(last["choices"])
    with (report / "supernet_gates.csv").open(newline="", encoding="utf-8") as file:
        gates = list(csv.DictReader(file))
    found = {(r["block"], r["gate"]): float(r["value"]) for r in gates if r["steps"] == "40"}
    assert found == {(b, g): v for b, own in last["gates"].items() for g, v in own.items()}


def test_kill_9_in_mid_supernet_changes_nothing(
    finished: Path, server: TrainerServer, tmp_path: Path
) -> None:
    (row,) = ask_json(finished, "trials", "--study", "tiny.toml")
    recorded = {k: v for k, v in row["audit"]["supernet"].items() if k != "seconds"}
    task = TrialTask.from_json(read_json(finished / SUPERNET / "task.json") or {})
    undisturbed = server.run(replace(task, folder=str(tmp_path / "undisturbed")))
    assert undisturbed.failure is None, undisturbed.message
    assert undisturbed.supernet == recorded


@pytest.mark.parametrize(
    ("override", "told"),
    [
        ("family=betanet2", "needs family = mbconv, but got betanet2"),
        ("limits.latency_ms=3.0", "needs limits.latency_ms = none, but got 3.0"),
        ("recipe.optimizer=muon", "recipe.optimizer = muon rescales the weights"),
        ("parameters.width=[0.2, 0.5]", r"parameters.width must be one value .*\[0.2, 0.5\]"),
        ('parameters.s1b1=["3x3-3", "5x5-6"]', "parameters.s1b1 must combine all its kernel"),
        ("oneshot.gate_update=reinforce", "of oneshot.method = proxyless"),
    ],
)
def test_what_no_supernet_can_do_is_refused(tmp_path: Path, override: str, told: str) -> None:
    write_study(tmp_path)
    more = ["parameters={}"] if override.startswith("family") else []
    with pytest.raises(StudyFileError, match=told):
        load_definition(tmp_path / "tiny.toml", [*more, override])


def test_a_supernet_that_fails_is_a_trial_that_failed(tmp_path: Path) -> None:
    write_study(tmp_path)
    hopeless = ("--set", "recipe.learning_rate=1e30", "--device", "cpu")
    _, told = run(tmp_path, "optimize", "--study", "tiny.toml", *hopeless, code=1)
    assert "trainings failed and none succeeded" in told
    assert "its supernet could not be trained" in told
    rows = ask_json(
        tmp_path, "trials", "--study", "tiny.toml", "--set", "recipe.learning_rate=1e30"
    )
    assert [(r["state"], r["reason"], r["phase"]) for r in rows] == [
        ("fail", "diverged", "one-shot")
    ] * len(rows)
    assert len(rows) > 1


def test_what_a_supernet_tells_is_not_the_trials_curve(finished: Path) -> None:
    study = optuna.load_study(study_name="tiny", storage=f"sqlite:///{finished}/storage/tiny.db")
    (trial,) = study.trials
    (row,) = ask_json(finished, "trials", "--study", "tiny.toml")
    own = [e["accuracy"] for e in row["audit"]["history"]]
    assert set(trial.intermediate_values.values()) <= set(own)


def test_the_chosen_network_can_be_confirmed(finished: Path) -> None:
    run(finished, "confirm", "--study", "tiny.toml", "--top", "1", "--seeds", "2")
    rows = ask_json(finished, "trials", "--study", "tiny.toml")
    assert [r["phase"] for r in rows] == ["one-shot", *["confirm"] * (len(rows) - 1)]
    assert len(rows) >= 3
