"""The study that ships with its trials: every command that reads works at once."""

import importlib.util
import json
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path
from socket import create_server
from urllib.request import urlopen

import pytest
from command import run, run_json, start, wait_for

from betanas.jobs.load import RECORDED
from betanas.study.loading import built_in_studies, load_definition

pytestmark = pytest.mark.slow

DEMO = ("--study", "demo")
ROOT = Path(__file__).parents[2]
TEMPLATES = ROOT / "betanas" / "analysis" / "templates"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty folder, as of somebody who has just installed the package."""
    return tmp_path_factory.mktemp("demo")


def test_the_recorded_trials_are_those_of_the_study_file() -> None:
    assert {p.stem for p in RECORDED.glob("*.db")} <= {p.stem for p in built_in_studies()}
    assert (RECORDED / "demo.db").stat().st_size < 1_000_000


def test_status_trials_and_best(folder: Path) -> None:
    status = run_json(folder, "status", *DEMO)
    assert status["feasible"] == status["target"] == load_definition("demo").search.trials
    rows = run_json(folder, "trials", *DEMO)
    complete = [r for r in rows if r["state"] == "complete"]
    assert len(complete) == status["trials"]["complete"]
    assert all(r["audit"]["history"] for r in complete)
    best = run_json(folder, "best", *DEMO)
    assert best["observed"]["number"] == status["best"]["number"]
    assert best["recommended"]["predicted_value"] > 0


def test_cluster_has_the_published_layout(folder: Path) -> None:
    out, _ = run(folder, "cluster", *DEMO)
    lines = out.splitlines()
    assert lines[0].split()[:4] == ["parameter", "recommended", "cluster", "1"]
    names = list(load_definition("demo").parameters)
    assert [line.split()[0] for line in lines[1 : 1 + len(names)]] == names


def test_report(folder: Path) -> None:
    told = run_json(folder, "report", *DEMO, "--output", "report")
    assert all((folder / file).stat().st_size for file in told["files"])
    data = json.loads((folder / "report" / "report.json").read_text())
    assert len(data["clusters"]) == 4
    assert data["model_quality"]["spearman"] > 0


def test_dashboard(folder: Path) -> None:
    with create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    process = start(folder, "dashboard", *DEMO, "--port", str(port))

    def answers() -> bytes:
        try:
            with urlopen(f"http://127.0.0.1:{port}/api/studies", timeout=5) as answer:
                return bytes(answer.read())
        except OSError:
            return b""

    try:
        assert b'"demo"' in wait_for(answers, 120)
    finally:
        process.kill()
        process.communicate(timeout=180)


@pytest.mark.skipif(importlib.util.find_spec("hatchling") is None, reason="pip install hatchling")
def test_wheel_and_sdist_carry_it(tmp_path: Path) -> None:
    build = [sys.executable, "-m", "hatchling", "build", "-d", str(tmp_path)]
    subprocess.run(build, cwd=ROOT, check=True, capture_output=True)
    (wheel,), (sdist,) = tmp_path.glob("*.whl"), tmp_path.glob("*.tar.gz")
    shipped = set(zipfile.ZipFile(wheel).namelist())
    templates = {str(p.relative_to(ROOT)) for p in TEMPLATES.rglob("*.*") if p.is_file()}
    assert "betanas/analysis/templates/sections/best.html" in templates
    assert {"betanas/recorded/demo.db", "betanas/studies/demo.toml", *templates} <= shipped
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert {"betanas/recorded/demo.db", "studies/demo.toml", *templates} <= names
