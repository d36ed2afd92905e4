"""The fixture of the search's tests: a study in a real database."""

from collections.abc import Callable
from pathlib import Path

import optuna
import pytest

from betanas.search.plan import StudyProblem
from betanas.search.sampler import KernelSampler


@pytest.fixture
def make_study(tmp_path: Path) -> Callable[..., optuna.Study]:
    """Opens a study in memory, or the test's one SQLite database, which takes longer."""

    def make(
        problem: StudyProblem, strategy: str = "botorch", *, durable: bool = False
    ) -> optuna.Study:
        return optuna.create_study(
            storage=f"sqlite:///{tmp_path / 'study.db'}" if durable else None,
            study_name="s",
            direction="maximize",
            sampler=KernelSampler(problem, strategy),
            load_if_exists=True,
        )

    return make
