"""A supernet in place of a proposal: what it has chosen is the trial's kernel.

Each trial of such a study trains a supernet of its own seed, then the chosen network alone, like
any other. A worker that is killed leaves both trainings to the next one, which goes on from their
checkpoints.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from betanas.architecture.complexity import count
from betanas.architecture.operators import OperatorTable
from betanas.architecture.supernet import SupernetPlan, network_text, plan_supernet
from betanas.database.settings import Settings
from betanas.database.stored import ClaimedTrial
from betanas.errors import RunError
from betanas.jobs.trials import TrialRunner
from betanas.objectives import Objective
from betanas.study.definition import StudyDefinition
from betanas.trial import SupernetTask, TrainingResult, trial_seed

_SUFFIX = "-supernet"  # a folder beside the trial's, which begins empty


class SupernetFailedError(Exception):
    """A supernet came to no network: the trial has failed, and the next one has another seed.

    Attributes:
        result: What is to be recorded.
    """

    def __init__(self, result: TrainingResult) -> None:
        super().__init__(result.message)
        self.result = result


def study_supernet(definition: StudyDefinition, settings: Settings) -> SupernetPlan:
    """What a study's supernet holds, with runtimes on the study's device."""
    assert settings.answering is not None  # noqa: S101 - such studies time answers
    return plan_supernet(
        definition.parameters,
        definition.resolution,
        len(settings.classes),
        OperatorTable.from_json(settings.answering),
        definition.latency.batch_size,
    )


def choose_network(
    definition: StudyDefinition,
    settings: Settings,
    runner: TrialRunner,
    claimed: ClaimedTrial,
    objective: Objective,
    tell: Callable[[str], None],
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Trains a trial's supernet.

    Args:
        definition: The study file.
        settings: What was decided when the study began.
        runner: Of the study's trials.
        claimed: Whose supernet.
        objective: What trains.
        tell: Is told, for people, what was chosen.

    Returns:
        The kernel that the supernet has chosen, and what is to be recorded of the supernet.

    Raises:
        SupernetFailedError: If its training fails by its own fault, or over and over.
        RunError: If this machine cannot train; the trial is to be given back.
    """
    plan, config = study_supernet(definition, settings), definition.oneshot
    architecture = plan.largest(definition.resolution, len(settings.classes))
    budget = config.budget or definition.budget
    seed = trial_seed(definition.search.seed, claimed.number)
    task = runner.task(claimed.number, seed, architecture, {})
    task = replace(
        task,
        folder=task.folder + _SUFFIX,
        budget=budget.of_network(count(architecture, batch_size=1).macs),
        latency=None,
        supernet=SupernetTask(plan, config),
    )
    tell(
        f"trial {claimed.number} trains a supernet, {config.method}: {len(plan.options)} blocks, "
        f"{plan.runtime_ms(plan.fastest):.3f} ms at least, latency weight {config.latency_weight:g}"
    )
    result = runner.measure(claimed, task, objective, prunes=False)
    if result.failure is not None:
        told = f"its supernet could not be trained: {result.message}; see {task.folder}/log.txt"
        raise SupernetFailedError(replace(result, message=told))
    if result.supernet is None:
        raise RunError(f"objective.name = {definition.objective.name} trains no supernets")
    choices = result.supernet["choices"]
    kernel = plan.kernel(choices)
    tell(
        f"trial {claimed.number}'s supernet has chosen {network_text(choices)}, "
        f"{result.supernet['runtime_ms']:.3f} ms by the table"
    )
    known = {"supernet": {**result.supernet, "seconds": result.train_seconds}}
    return kernel, known
