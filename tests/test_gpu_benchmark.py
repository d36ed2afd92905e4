"""The script for a machine with a GPU must never be what fails there: small, it runs anywhere."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[1] / "benchmarks" / "gpu.py"


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, SCRIPT, "--device", "cpu", "--quick", *arguments],
        check=False,
        capture_output=True,
        text=True,
        env={**os.environ, "OMP_WAIT_POLICY": "PASSIVE"},
    )


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_every_phase_ends_green_on_a_cpu() -> None:
    ran = run()
    assert ran.returncode == 0, ran.stdout + ran.stderr
    rows = [json.loads(line) for line in ran.stdout.splitlines() if line.startswith("{")]
    assert sum("ok" in row for row in rows) >= 15


@pytest.mark.slow
def test_unknown_phase_is_named() -> None:
    ran = run("--phases", "augmentation,no_such_phase")
    assert ran.returncode == 2
    assert "no_such_phase" in ran.stderr
