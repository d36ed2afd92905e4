"""A study that has begun: its exact rules and its first phase, the same for every worker."""

from betanas.architecture.limits import Feasibility
from betanas.database.settings import Settings
from betanas.search.space import SobolPhase, Space
from betanas.study.definition import StudyDefinition
from betanas.study.feasibility import study_feasibility


def study_rules(definition: StudyDefinition, settings: Settings) -> Feasibility:
    """The rules that decide which of its kernels may be trained."""
    return study_feasibility(
        definition, len(settings.classes), settings.memory_bytes, settings.scaled_memory_bytes
    )


def sobol_phase(definition: StudyDefinition, settings: Settings) -> SobolPhase:
    """Its Sobol points, and how many of them there are."""
    search = definition.search
    return SobolPhase(
        Space.of(definition),
        study_rules(definition, settings),
        search.seed,
        search.sobol_trials,
        search.min_feasible,
    )
