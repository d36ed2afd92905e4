"""The examples run as they stand, in an empty folder."""

import os
import subprocess
import sys
from pathlib import Path

import optuna
import pytest

EXAMPLES = Path(__file__).parents[1] / "examples"


def run(folder: Path, name: str, *arguments: str) -> str:
    environment = {k: v for k, v in os.environ.items() if k != "BETANAS_STORAGE"}
    command = [sys.executable, EXAMPLES / name, *arguments]
    ended = subprocess.run(
        command,
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    return ended.stdout


def test_every_example_is_tested() -> None:
    tested = Path(__file__).read_text()
    assert not [f.name for f in EXAMPLES.glob("*.py") if f'"{f.name}"' not in tested]


@pytest.mark.slow
def test_own_pictures(tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime", reason="pip install 'betanas[export]'")
    out = run(tmp_path, "own_pictures.py")
    assert "% of the validation images" in out
    assert (tmp_path / "exported" / "model.onnx").stat().st_size > 10_000


@pytest.mark.slow
def test_own_loop_goes_on_with_the_same_study(tmp_path: Path) -> None:
    run(tmp_path, "own_loop.py", "7")
    assert "weights" in run(tmp_path, "own_loop.py", "1")
    study = optuna.load_study(study_name="own_loop", storage=f"sqlite:///{tmp_path}/own_loop.db")
    assert len(study.trials) == 8
    assert study.best_value > 0.3


@pytest.mark.slow
def test_own_family(tmp_path: Path) -> None:
    out = run(tmp_path, "own_family.py", "5")
    assert "'block'" in out
    assert "pyramid" in (tmp_path / "report" / "report.html").read_text()
