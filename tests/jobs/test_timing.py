"""Operators that are timed when the search's model first asks about them."""

from pathlib import Path

import pytest
from command import TINY
from faults import DEVICES

from betanas.data import describe_dataset
from betanas.database.settings import new_settings
from betanas.database.stored import StoredStudy
from betanas.jobs.timing import note_operators, with_operators
from betanas.search.plan import study_problem
from betanas.study.definition import StudyDefinition
from betanas.study.loading import load_definition


def begin(definition: StudyDefinition, folder: Path) -> StoredStudy:
    settings = new_settings(definition, describe_dataset(definition.dataset), DEVICES)
    settings = with_operators(definition, settings, folder / "cache", pytest.fail)
    return StoredStudy.begin(f"sqlite:///{folder}/tiny.db", "tiny", settings)


@pytest.mark.slow
def test_one_worker_times_training_steps_for_all(tmp_path: Path) -> None:
    file = tmp_path / "tiny.toml"
    file.write_text(TINY.replace("steps = 4", "seconds = 60"))
    definition = load_definition(file)
    stored, other = begin(definition, tmp_path), begin(definition, tmp_path)
    assert stored.settings.operators == {}, "a study begins before that"
    kernels = study_problem(definition, stored.settings).sobol_points(0, 4)

    def seconds(study: StoredStudy) -> list[float] | None:
        found = study_problem(definition, study.settings).rules.check(kernels).step_seconds
        return None if found is None else found.tolist()

    assert seconds(stored) is None
    told: list[str] = []
    assert note_operators(definition, stored, tmp_path / "cache", told.append)
    assert min(seconds(stored)) > 0
    assert not note_operators(definition, stored, tmp_path / "cache", told.append)
    assert note_operators(definition, other, tmp_path / "cache", told.append)
    assert len(told) == 1, "the other worker takes what the first has measured"
    again = StoredStudy.load(f"sqlite:///{tmp_path}/tiny.db", "tiny")
    assert other.settings == stored.settings == again.settings


def test_what_counts_no_seconds_times_no_training_step(tmp_path: Path) -> None:
    file = tmp_path / "tiny.toml"
    file.write_text(TINY)
    definition = load_definition(file)
    stored = begin(definition, tmp_path)
    assert stored.settings.operators is None
    assert not note_operators(definition, stored, tmp_path / "cache", pytest.fail)
