"""A study that has begun, as commands open it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from betanas.cli.options import err, say
from betanas.errors import InputError

if TYPE_CHECKING:  # optuna takes a second to import: only commands that need it wait for it
    from betanas.database.stored import StoredStudy
    from betanas.study.definition import StudyDefinition


def load_begun(
    study: str, storage: str | None, set_: list[str] | None
) -> tuple[StudyDefinition, StoredStudy]:
    """A study as it has begun, and its database; tells what its file says otherwise by now."""
    import optuna

    from betanas.jobs.load import load_study

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    found = load_study(study, storage, set_ or ())
    if found.note:
        say(f"note: {found.note}", err, "dim")
    return found.definition, found.stored


def trial_kernel(stored: StoredStudy, number: int | None) -> dict[str, float]:
    """The kernel of one trial, by number; of the observed best if there is none given."""
    from betanas.analysis.status import observed_best

    records = stored.records()
    if number is None:
        record = observed_best(records)
        if record is None:
            raise InputError("the study has no complete trial yet")
    elif not 0 <= number < len(records):
        raise InputError(f"--trial must be in [0, {len(records) - 1}], but got {number}")
    else:
        record = records[number]
    return record.kernel
