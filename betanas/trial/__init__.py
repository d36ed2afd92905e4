"""A trial as data: what a trainer is told, what it returns, and what the study knows of it."""

from betanas.trial.record import (
    COLUMNS,
    LARGEST,
    PACE,
    REPEATS,
    SEED_INDEX,
    STOPPED_EARLY,
    Phase,
    TrialRecord,
    whole,
)
from betanas.trial.result import (
    Evaluation,
    Failure,
    TrainingResult,
    TrialLatency,
    measured_ms,
)
from betanas.trial.task import (
    LOG_FILE,
    PROGRESS_FILE,
    RESULT_FILE,
    STOP_FILE,
    TASK_FILE,
    SupernetTask,
    TrialTask,
    left_result,
    training_of,
    trial_seed,
)

__all__ = [
    "COLUMNS",
    "LARGEST",
    "LOG_FILE",
    "PACE",
    "PROGRESS_FILE",
    "REPEATS",
    "RESULT_FILE",
    "SEED_INDEX",
    "STOPPED_EARLY",
    "STOP_FILE",
    "TASK_FILE",
    "Evaluation",
    "Failure",
    "Phase",
    "SupernetTask",
    "TrainingResult",
    "TrialLatency",
    "TrialRecord",
    "TrialTask",
    "left_result",
    "measured_ms",
    "training_of",
    "trial_seed",
    "whole",
]
