"""What is measured of a trial after it has ended, as user attributes beside the others.

Optuna itself changes no trial that has ended.
"""

from collections.abc import Collection, Mapping
from typing import Any

from betanas.database.patience import patient
from betanas.database.rows import put_attributes
from betanas.database.stored import StoredStudy


@patient
def annotate(
    stored: StoredStudy, found: Mapping[int, Mapping[str, Any]], keys: Collection[str]
) -> None:
    """Gives trials user attributes, and takes those of an earlier time from all of the study.

    Args:
        stored: The study.
        found: ``trial number -> {key: value}``.
        keys: All keys that belong together: no other trial keeps one of them.
    """
    ids = {t.number: t._trial_id for t in stored.study.get_trials(deepcopy=False)}
    facts = {trial_id: found.get(number, {}) for number, trial_id in ids.items()}
    with stored.database.engine.begin() as connection:
        put_attributes(connection, facts, instead_of=keys)
