"""Commands that read a study take it as it has begun, not as its file is by now."""

import json

import pytest

from betanas.database.settings import SCHEMA
from betanas.study.begun import as_begun, given_keys
from betanas.study.definition import StudyDefinition
from betanas.study.loading import load_definition


def read(began: list[str], given: list[str], study: str = "digits") -> tuple[StudyDefinition, str]:
    """What a command with overrides takes of a study that began with others."""
    recorded = json.loads(json.dumps(load_definition(study, began).meaning()))
    return as_begun(load_definition(study, given), recorded, SCHEMA, given_keys(given, data=False))


@pytest.mark.parametrize(
    "began",
    [
        ["resolution=24"],
        ["resolution=24", "recipe.optimizer=sgd", "limits.num_params=12345"],
        ["budget.steps=7"],
        ["parameters.K=[2, 3]", "parameters.B={prior = {mean = 0.5, std = 0.1}}"],
        ["recipe.learning_rate={low = 1e-4, high = 1e-2, log = true}"],
        ["recipe.weight_decay={low = 0, high = 0.1, prior = {mean = 0.05, std = 0.01}}"],
        ["recipe.preset=short"],
        ['objectives=["accuracy", "latency"]', "latency.threads=2"],
        ["family=betanet3"],
        ["recipe.dropout=0.3", "objective.latency_weight=0.1"],
        ["limits.scaled={resolution = 64, num_params = 1000000}"],
    ],
)
def test_a_study_is_what_it_has_begun_with(began: list[str]) -> None:
    found, note = read(began, [])
    assert found.meaning() == load_definition("digits", began).meaning()
    assert note.startswith("study digits is taken as it has begun, with ")
    again, nothing = read(began, began)  # told the same, there is nothing to say
    assert again.meaning() == found.meaning()
    assert nothing == ""


@pytest.mark.parametrize(
    "given",
    [
        ["recipe.momentum={low = 0.5, high = 0.9}", "recipe.optimizer=sgd"],
        ["parameters.K={low = 2, high = 3, prior = {mean = 2.5, std = 0.1}}"],
        ["limits.scaled={resolution = 64, num_params = 1000000}"],
    ],
)
def test_what_a_file_has_more_by_now_is_left_out(given: list[str]) -> None:
    """As if the file had been changed since: no override of a reader's."""
    recorded = load_definition("digits").meaning()
    found, note = as_begun(load_definition("digits", given), recorded, SCHEMA, [])
    assert found.meaning() == recorded
    assert "(its file: " in note


@pytest.mark.parametrize(
    ("began", "given", "key", "taken"),
    [
        (["resolution=24"], ["resolution=32"], "resolution", 32),
        (["budget.steps=7"], ["budget.epochs=3"], "budget.epochs", 3),
        (["budget.steps=7"], ["budget.epochs=3"], "budget.steps", None),
        (["recipe.optimizer=sgd"], ["recipe.preset=short"], "recipe.optimizer", "muon"),
        (["recipe.optimizer=sgd"], ["recipe.momentum=0.5"], "recipe.optimizer", "sgd"),
        (
            ["recipe.momentum={low = 0, high = 0.9}", "recipe.optimizer=sgd"],
            ["recipe.momentum=0.5"],
            "recipe_ranges.momentum.low",
            None,
        ),
        (["dataset.validation=0.3"], ["resolution=20"], "dataset.validation", 0.3),
    ],
)
def test_overrides_go_before_what_it_has_begun_with(
    began: list[str], given: list[str], key: str, taken: object
) -> None:
    assert read(began, given)[0].meaning().get(key) == taken


def test_a_note_names_some_of_the_keys() -> None:
    began = ["resolution=24", "recipe.batch_size=50", "recipe.momentum=0.1", "recipe.mixup=0.2"]
    assert read(began, [])[1] == (
        "study digits is taken as it has begun, with recipe.batch_size = 50 (its file: 64), "
        "recipe.mixup = 0.2 (its file: 0.0), recipe.momentum = 0.1 (its file: 0.9) and 1 more; "
        "--set goes before"
    )
