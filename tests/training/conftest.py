from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from betanas.architecture.decoding import decode
from betanas.architecture.families import FAMILIES
from betanas.launcher.client import TrainerServer
from betanas.study.definition import Budget, DatasetConfig, Recipe
from betanas.trial import TrialTask

DIGITS = DatasetConfig(name="digits", validation=0.25)
TaskMaker = Callable[..., TrialTask]


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TrainerServer]:
    """One trainer server for all tests; it starts itself again after it was killed."""
    with TrainerServer(DIGITS, 16, tmp_path_factory.mktemp("cache")) as running:
        yield running


@pytest.fixture
def make_task(tmp_path: Path) -> TaskMaker:
    """Makes tasks of a small network with residual branches of both kinds on the digits."""
    family = FAMILIES["betanet2"]
    kernel = {**family.published, "k": 1.5, "K": 2.0, "B": 0.9}

    def make(
        name: str = "trial",
        budget: dict[str, Any] | None = None,
        recipe: dict[str, Any] | None = None,
        ranks: int = 1,
        **changes: Any,
    ) -> TrialTask:
        return TrialTask(
            **{
                "number": 0,
                "seed": 5,
                "architecture": decode(family, kernel, changes.pop("resolution", 16), 10),
                "dataset": DIGITS,
                "recipe": Recipe(**{"batch_size": 64, "autoaugment": False, **(recipe or {})}),
                "budget": Budget(**(budget or {"steps": 12})),
                "nproc_per_node": ranks,
                "device": "cpu",
                "folder": str(tmp_path / name),
                "cache": str(tmp_path / "cache"),
                **changes,
            }
        )

    return make
