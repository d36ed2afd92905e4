"""A study with trials, for the commands that read one."""

from pathlib import Path

import optuna
import pytest
from calls import write

from betanas.architecture.complexity import count
from betanas.architecture.decoding import decode
from betanas.database.settings import Settings
from betanas.database.stored import StoredStudy
from betanas.study.loading import load_definition
from betanas.trial import Failure, TrainingResult


@pytest.fixture(scope="session")
def begun(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a study of six trials: complete, rejected, failed, complete, best, running."""
    folder = tmp_path_factory.mktemp("begun")
    definition = load_definition(write(folder))
    classes = tuple("0123456789")
    stored = StoredStudy.begin(
        f"sqlite:///{folder}/storage/mine.db",
        "mine",
        Settings(definition.meaning(), classes, "digits", 2**30, None),
    )
    stored.study.sampler = optuna.samplers.RandomSampler(seed=0)
    results = [
        TrainingResult(value=0.5, train_seconds=4.0, data_wait_seconds=0.1, epochs=1.5),
        "num_params",
        TrainingResult(value=None, failure=Failure.DIVERGED, message="loss is nan"),
        TrainingResult(value=0.25, train_seconds=4.0, data_wait_seconds=2.0),
        TrainingResult(value=0.875, train_seconds=4.0),
    ]
    for result in results:
        claimed = stored.claim()
        kernel = {n: claimed.trial.suggest_float(n, *r) for n, r in definition.parameters.items()}
        architecture = decode(definition.search_family, kernel, 16, 10)
        stored.describe(claimed, "sobol", count(architecture, 100), architecture.fingerprint)
        if isinstance(result, str):
            stored.reject(claimed, result)
        else:
            assert stored.finish(claimed, result)
    stored.claim()
    return folder
