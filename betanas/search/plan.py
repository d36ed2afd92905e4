"""From a study to its search problem, the same for every worker."""

from betanas.architecture.operators import OperatorTable
from betanas.database.settings import Settings
from betanas.search.problem import Problem
from betanas.search.rules import ArchitectureRules
from betanas.search.space import Space
from betanas.search.warm_start import WarmStart
from betanas.study.definition import StudyDefinition
from betanas.study.feasibility import study_feasibility
from betanas.study.meaning import NUMBERS_OF_STUDY

StudyProblem = Problem[ArchitectureRules]


def study_problem(definition: StudyDefinition, settings: Settings) -> StudyProblem:
    """What a study that has begun searches, by which rules, and how it opens."""
    memory, scaled_memory = settings.memory_bytes, settings.scaled_memory_bytes
    classes, device = len(settings.classes), settings.device or "cpu"
    operators, answering = settings.operators, settings.answering
    formerly = settings.schema <= NUMBERS_OF_STUDY
    if not formerly:
        trained = settings.trained(definition.recipe, device)
        definition = definition.model_copy(update={"recipe": trained})
    problem = planned_problem(
        definition,
        classes,
        memory,
        scaled_memory,
        device,
        OperatorTable.from_json(operators) if operators else None,
        None if answering is None else OperatorTable.from_json(answering),
        formerly=formerly,
    )
    told = settings.warm_start
    return problem if told is None else WarmStart.from_json(told).begin(problem)


def planned_problem(
    definition: StudyDefinition,
    num_classes: int,
    memory: int | None,
    scaled_memory: int | None,
    device: str = "cpu",
    operators: OperatorTable | None = None,
    answering: OperatorTable | None = None,
    *,
    formerly: bool = False,
) -> StudyProblem:
    """The problem of a study that may not have begun; arguments as for ``study_feasibility``."""
    feasibility = study_feasibility(
        definition,
        num_classes,
        memory,
        scaled_memory,
        device,
        operators,
        answering,
        formerly=formerly,
    )
    space, search = Space(definition.searched), definition.search
    rules = ArchitectureRules(space, feasibility)
    # A grid is opened by its own points, and supernets propose from the first trial on.
    opened = search.sampler != "grid" and not definition.is_one_shot
    start = tuple(tuple(space.vector(kernel).tolist()) for kernel in definition.start)
    return Problem(
        space,
        rules,
        search.seed,
        search.sobol_trials if opened else 0,
        search.min_feasible if opened else 0,
        start,
        definition.objectives,
        grid_step=search.grid_step,
    )
