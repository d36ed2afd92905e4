"""Optuna's own tools write into a study of ours: search and every command live with it."""

from pathlib import Path

import pytest
from command import ask, ask_json
from faults import STUDY, begun, work, write_definition
from optuna.trial import TrialState, create_trial

from betanas.study.definition import StudyDefinition

pytestmark = pytest.mark.slow

SEARCH = STUDY.replace("sobol_trials = 1000", "sobol_trials = 6").replace(
    "trials = 1000", "trials = 16"
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("foreign")


@pytest.fixture(scope="module")
def study(folder: Path) -> tuple[StudyDefinition, str]:
    """A study with twelve trials of ours, the last ones after foreign ones of every state."""
    definition = write_definition(folder, SEARCH)
    (folder / "storage").mkdir()
    url = f"sqlite:///{folder}/storage/cheap.db"
    work(definition, url, folder / "log", 0.0, 8)
    theirs = begun(definition, url).study
    example = next(t for t in theirs.trials if t.state == TrialState.COMPLETE)
    theirs.ask()
    theirs.tell(theirs.ask(), state=TrialState.FAIL)
    theirs.tell(theirs.ask(), state=TrialState.PRUNED)
    theirs.tell(theirs.ask(), 0.001)
    theirs.add_trial(
        create_trial(value=0.002, params=example.params, distributions=example.distributions)
    )
    theirs.enqueue_trial(example.params)
    work(definition, url, folder / "log", 0.0, 4)
    return definition, url


def test_a_search_goes_on_and_leaves_theirs_alone(study: tuple[StudyDefinition, str]) -> None:
    records = begun(*study).records()
    assert [r.state for r in records[8:14]] == [
        "running", "fail", "pruned", "complete", "complete", "waiting",
    ]  # fmt: skip
    assert [r.state for r in records[14:]] == ["complete"] * 4
    assert {r.phase for r in records[14:]} == {"gp"}


def test_every_command_reads_it(study: tuple[StudyDefinition, str], folder: Path) -> None:
    status = ask_json(folder, "status", "--study", "cheap.toml")
    assert status["trials"]["waiting"] == status["trials"]["running"] == 1
    assert len(ask_json(folder, "trials", "--study", "cheap.toml")) == 18
    best = ask_json(folder, "best", "--study", "cheap.toml")
    assert best["recommended"]["parameters"].keys() == study[0].ranges.keys()
    ask_json(folder, "cluster", "--study", "cheap.toml", "--clusters", "2")
    ask(folder, "report", "--study", "cheap.toml", "--output", "report")
    assert list((folder / "report").glob("*.html"))
