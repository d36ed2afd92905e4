"""A study's recommended kernel: one answer for every command that tells it."""

from collections.abc import Sequence

from betanas.database.settings import Settings
from betanas.search.plan import study_problem
from betanas.search.recommend import Recommendation, recommend
from betanas.study.definition import StudyDefinition
from betanas.trial import TrialRecord


def recommended(
    definition: StudyDefinition, settings: Settings, records: Sequence[TrialRecord]
) -> Recommendation | None:
    """The kernel that a study's model holds for the best.

    Args:
        definition: The study file.
        settings: What was decided when the study began.
        records: All its trials, in every state: what ran out of memory is not recommended.

    Returns:
        None if too few trials are complete.
    """
    return recommend(study_problem(definition, settings), records)
