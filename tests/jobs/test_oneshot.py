"""One-shot studies end to end: a supernet, then the network that it has chosen."""

import shutil
from pathlib import Path

import pytest
from command import descendants, is_alive, run, run_json, start, wait_for

from betanas.errors import StudyFileError
from betanas.models.operators import OPERATORS_FILE
from betanas.study.loading import load_definition

pytestmark = pytest.mark.slow

STUDY = """
family = "mbconv"
resolution = 16
parameters = { stem = 1, stages = 1, blocks = 2, width = 0.25, tail = 16, head = 16 }
dataset = { name = "digits" }
recipe = { preset = "fast", batch_size = 32, evaluations = 4, precision = "float32" }
oneshot = { latency_weight = 50, gate_learning_rate = 0.2, budget = { steps = 60 } }
budget = { steps = 4 }
search = { strategy = "one-shot", trials = 1 }
"""


def write_study(folder: Path) -> None:
    folder.mkdir(exist_ok=True)
    (folder / "tiny.toml").write_text(STUDY, encoding="utf-8")


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("finished")
    write_study(folder)
    run(folder, "optimize", "--study", "tiny.toml", "--device", "cpu")
    return folder


def test_the_chosen_network_is_a_trial_like_any_other(finished: Path) -> None:
    (row,) = run_json(finished, "trials", "--study", "tiny.toml")
    assert (row["state"], row["phase"]) == ("complete", "one-shot")
    supernet = row["audit"]["supernet"]
    assert list(supernet["choices"]) == ["s1b1", "s1b2"]
    assert {name: row["parameters"][name] for name in supernet["choices"]} == supernet["choices"]
    assert len(supernet["history"]) == 4
    assert set(supernet["history"][-1]["gates"]["s1b2"]) == {"kernel", "expansion", "presence"}
    assert row["audit"]["latency"]["p50_ms"] > 0
    assert row["audit"]["steps"] == 4
    best = run_json(finished, "best", "--study", "tiny.toml")
    assert best["observed"]["number"] == 0
    described = run_json(finished, "describe", "--study", "tiny.toml", "--best")
    assert described["fingerprint"] == row["fingerprint"]
    report = run_json(finished, "report", "--study", "tiny.toml", "--output", "report")
    assert report["files"]


def test_kill_9_in_mid_supernet_changes_nothing(finished: Path, tmp_path: Path) -> None:
    write_study(tmp_path)
    (measured,) = finished.rglob(OPERATORS_FILE)
    there = tmp_path / measured.relative_to(finished)
    there.parent.mkdir(parents=True)
    shutil.copy(measured, there)  # runtimes as the other study has them
    process = start(tmp_path, "optimize", "--study", "tiny.toml", "--device", "cpu")
    beat = tmp_path / "storage" / "tiny" / "00000" / "supernet" / "rank-0.beat"
    wait_for(beat.exists, seconds=200)
    below = descendants(process.pid)
    process.kill()
    process.communicate()
    wait_for(lambda: not any(map(is_alive, below)), seconds=60)
    run(tmp_path, "optimize", "--study", "tiny.toml", "--device", "cpu")
    (ours,), (theirs,) = (
        run_json(folder, "trials", "--study", "tiny.toml") for folder in (tmp_path, finished)
    )
    for key in ("state", "phase", "value", "parameters", "fingerprint"):
        assert ours[key] == theirs[key]
    seconds = ours["audit"]["supernet"].pop("seconds"), theirs["audit"]["supernet"].pop("seconds")
    assert min(seconds) > 0
    assert ours["audit"]["supernet"] == theirs["audit"]["supernet"]


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
