"""One recommendation: whoever asks for it, and whatever has run out of memory."""

import json
import math
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest
from command import ask_json
from generated import generated_records, settings_of, write_database

from betanas.jobs.load import load_study as open_study
from betanas.jobs.model_names import find_model
from betanas.search.plan import StudyProblem, study_problem
from betanas.search.recommend import recommend
from betanas.study.loading import load_definition
from betanas.trial import Failure, TrialRecord

pytestmark = pytest.mark.slow


def bytes_of_a_step(problem: StudyProblem, parameters: Mapping[str, float]) -> float:
    return float(problem.rules.check(problem.space.vector(parameters)[None, :]).step_bytes[0])


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder whose study betanet2 has run out of memory at the kernel that it recommended."""
    folder = tmp_path_factory.mktemp("recommended")
    (folder / "storage").mkdir()
    definition = load_definition("betanet2")
    settings = settings_of(definition)
    problem = study_problem(definition, settings)
    made = generated_records(definition, settings, 120)
    needed = {r.number: bytes_of_a_step(problem, r.parameters) for r in made if r.value is not None}
    records = [
        replace(made[number], number=i, value=0.06 * math.log10(needed[number]))
        for i, number in enumerate(sorted(needed, key=needed.__getitem__)[:30])
    ]  # the small ones, and the larger the better
    found = recommend(problem, records)
    assert found is not None
    largest = bytes_of_a_step(problem, records[-1].parameters)
    assert bytes_of_a_step(problem, found.parameters) > largest  # nothing as large has been trained
    failed = TrialRecord(
        len(records), "fail", "gp", reason=Failure.OUT_OF_MEMORY, parameters=found.parameters
    )
    records.append(failed)
    write_database(folder / "storage" / "betanet2.db", definition, settings, records)
    return folder


@pytest.mark.parametrize("study", ["betanet2", "demo"])
def test_four_commands_give_one_recommendation(
    folder: Path, study: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    best = ask_json(folder, "best", "--study", study)["recommended"]
    assert ask_json(folder, "cluster", "--study", study)["recommended"] == best
    ask_json(folder, "report", "--study", study, "--output", f"report_{study}")
    report = json.loads((folder / f"report_{study}" / "report.json").read_text())
    assert report["recommended"] == best
    assert report["model_quality"]["spearman"] == best["rank_correlation"]
    assert report["model_quality"]["coverage"] == best["coverage"]
    if study == "demo":  # a hundred real trainings, so that 95 % may be told from 84 %
        assert 0.92 <= best["coverage"] <= 0.98

    monkeypatch.chdir(folder)
    opened = open_study(study)
    resolution = opened.definition.resolution
    trained = find_model(
        f"{study}:recommended", resolution, len(opened.stored.settings.classes), None
    )
    assert trained.parameters == best["parameters"]
    (shown,) = (n for n in report["networks"] if n["title"] == "recommended best")
    assert shown["parameters"] == best["parameters"]
    assert shown["fingerprint"] == trained.network.fingerprint


def test_what_ran_out_of_memory_is_recommended_by_none(folder: Path) -> None:
    opened = open_study("betanet2", f"sqlite:///{folder}/storage/betanet2.db")
    problem = study_problem(opened.definition, opened.stored.settings)
    failed = opened.records()[-1]
    assert failed.reason == Failure.OUT_OF_MEMORY
    best = ask_json(folder, "best", "--study", "betanet2")["recommended"]
    needed = bytes_of_a_step(problem, best["parameters"])
    assert needed < bytes_of_a_step(problem, failed.parameters)
