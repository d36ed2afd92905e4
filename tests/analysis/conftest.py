"""One generated study for all tests of the analysis."""

import dataclasses

import optuna
import pytest
from generated import generated_records, settings_of

from betanas.analysis.findings import Findings
from betanas.database.settings import Settings
from betanas.jobs.report import analyse_records
from betanas.study.definition import StudyDefinition
from betanas.study.loading import load_definition
from betanas.trial import TrialRecord

optuna.logging.set_verbosity(optuna.logging.WARNING)


@pytest.fixture(scope="session")
def definition() -> StudyDefinition:
    return load_definition("betanet2", ["search.sobol_trials=40"])


@pytest.fixture(scope="session")
def settings(definition: StudyDefinition) -> Settings:
    return settings_of(definition)


@pytest.fixture(scope="session")
def records(definition: StudyDefinition, settings: Settings) -> list[TrialRecord]:
    """150 trials, among them a failed one, a running one and a replicate."""
    made = generated_records(definition, settings, 150)
    made[100] = dataclasses.replace(made[100], state="fail", value=None, reason="diverged")
    made[101] = dataclasses.replace(made[101], fingerprint=made[102].fingerprint)
    made[149] = dataclasses.replace(made[149], state="running", value=None, audit={})
    return made


@pytest.fixture(scope="session")
def findings(
    definition: StudyDefinition, settings: Settings, records: list[TrialRecord]
) -> Findings:
    return analyse_records(definition, settings, records)
