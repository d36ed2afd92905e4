"""What is measured of a trial after it has ended, as user attributes beside the others.

Optuna changes no trial that has ended, so this writes the rows of its table itself; all of Optuna's
tools show them.
"""

import json
from collections.abc import Collection, Mapping
from typing import Any

from sqlalchemy import column, delete, insert, table

from betanas.search.patience import patient
from betanas.search.storage import StoredStudy

_ATTRIBUTES = table(
    "trial_user_attributes", column("trial_id"), column("key"), column("value_json")
)


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
    rows = [
        {"trial_id": ids[number], "key": key, "value_json": json.dumps(value)}
        for number, facts in found.items()
        for key, value in facts.items()
    ]
    old = delete(_ATTRIBUTES).where(
        _ATTRIBUTES.c.trial_id.in_(list(ids.values())), _ATTRIBUTES.c.key.in_(list(keys))
    )
    with stored.database.engine.begin() as connection:
        connection.execute(old)
        if rows:
            connection.execute(insert(_ATTRIBUTES), rows)
