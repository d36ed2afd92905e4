"""The Pareto front of a study with several objectives, from its database."""

from typing import Any

from betanas.analysis.clusters import complete_trials
from betanas.analysis.front import Front, find_front, first_reference
from betanas.database.stored import StoredStudy


def front_of(stored: StoredStudy) -> Front | None:
    """A study's front; None with one objective, or without a complete trial."""
    if len(stored.objectives) < 2:
        return None
    return find_front(stored.objectives, stored.records(), stored.reference)


def front_json(stored: StoredStudy, front: Front | None) -> dict[str, Any]:
    """A study's front as plain data: an empty one before a trial is complete, none of one value."""
    if front is None and len(stored.objectives) > 1:
        return {"objectives": list(stored.objectives), "front": []}
    return front.to_json() if front else {}


def note_reference(stored: StoredStudy) -> None:
    """Records where hypervolumes count from, once trials of several objectives have opened it."""
    if len(stored.objectives) < 2 or stored.reference is not None:
        return
    records = stored.records()
    if complete_trials(records):
        stored.put_reference(first_reference(stored.objectives, records))
