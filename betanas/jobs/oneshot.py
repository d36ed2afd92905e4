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
from betanas.search.plan import StudyProblem
from betanas.study.definition import StudyDefinition
from betanas.trial import SupernetTask, trial_seed

_SUFFIX = "-supernet"  # a folder beside the trial's, which begins empty


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
    problem: StudyProblem,
    runner: TrialRunner,
    claimed: ClaimedTrial,
    objective: Objective,
    tell: Callable[[str], None],
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Trains a trial's supernet.

    Args:
        definition: The study file.
        settings: What was decided when the study began.
        problem: What it searches.
        runner: Of the study's trials.
        claimed: Whose supernet.
        objective: What trains.
        tell: Is told, for people, what was chosen.

    Returns:
        The kernel that the supernet has chosen, and what is to be recorded of the supernet.

    Raises:
        RunError: If the training fails, or limits forbid what it has chosen.
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
    result = runner.measure(claimed, task, objective)
    if result.supernet is None or result.failure is not None:
        raise RunError(
            f"the supernet of trial {claimed.number} could not be trained: {result.failure}, "
            f"{result.message}; see {task.folder}/log.txt"
        )
    choices = result.supernet["choices"]
    kernel = plan.kernel(choices)
    tell(
        f"trial {claimed.number}'s supernet has chosen {network_text(choices)}, "
        f"{result.supernet['runtime_ms']:.3f} ms by the table"
    )
    reason = problem.rules.check(problem.space.vector(kernel)[None, :]).reason(0)
    if reason is not None:
        raise RunError(
            f"the network that trial {claimed.number}'s supernet has chosen breaks a limit: "
            f"{reason}; raise it in [limits], or oneshot.latency_weight"
        )
    known = {"supernet": {**result.supernet, "seconds": result.train_seconds}}
    return kernel, known
