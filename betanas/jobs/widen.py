"""Wider ranges: which are advised, and the study that goes on with them from a study's trials."""

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from betanas.analysis.ranges import MIN_TRIALS, RangeAdvice, advise_ranges, wider_ranges
from betanas.database.copying import begin_with_trials
from betanas.database.settings import Settings
from betanas.database.stored import StoredStudy
from betanas.errors import InputError
from betanas.files import write_whole
from betanas.jobs.load import open_begun, storage_url
from betanas.search.plan import study_problem
from betanas.study.definition import StudyDefinition
from betanas.study.loading import built_in_studies, changed_definition, find_study, load_definition
from betanas.study.recipe import RECIPE_PREFIX
from betanas.study.writing import study_file
from betanas.trial import TrialRecord

_WIDE = re.compile(r"(?P<of>.+-wide)(?:-(?P<number>\d+))?")


def range_advice(
    definition: StudyDefinition, settings: Settings, records: Sequence[TrialRecord]
) -> list[RangeAdvice]:
    """The ends of a study's ranges that its best trials press against.

    Args:
        definition: The study file.
        settings: What was decided when the study began.
        records: All its trials.
    """
    return advise_ranges(study_problem(definition, settings), records)


def begin_wider(study: str | Path, definition: StudyDefinition, storage: str | None) -> Path:
    """Begins the study of wider ranges that a study's trials advise, with these trials in it.

    It is a study like any other: a file ``STUDY-wide.toml`` (then ``STUDY-wide-2.toml``, ...)
    beside the study's own, or here if that is built in. A trial's value means the same in both.
    What has begun already stays as it is.

    Args:
        study: Name or path of the study that has trials.
        definition: Its definition.
        storage: Database URL as it was given, for both.

    Returns:
        The wider study's file.

    Raises:
        InputError: If nothing presses against an end, there is another file of that name, or the
            study has several objectives.
        StorageError: If the study has not begun, or has begun with another meaning.
    """
    if len(definition.objectives) > 1:
        raise InputError(
            f"--widen: study {definition.name} has several objectives, and its best trials are a "
            "front, not the neighbourhood of one; write a study file with the ranges that you want"
        )
    stored = open_begun(definition, storage_url(definition, storage))
    schema = stored.settings.schema
    stored.refuse_change(_with_meaning(stored.settings, definition.as_of(schema)))
    file = _file(find_study(study), definition.name)
    if file.exists():
        wide = load_definition(file)
        _check_wider(file, definition, wide)
    else:
        wide = _widened(study, definition, stored, file)
    settings = _with_meaning(stored.settings, wide.as_of(schema))
    space = study_problem(wide, settings).space
    begin_with_trials(storage_url(wide, storage), wide.name, settings, stored, space.distributions)
    return file


def _file(path: Path, name: str) -> Path:
    """Where the wider study's file goes: ``a.toml``, ``a-wide.toml``, ``a-wide-2.toml``, ..."""
    known = _WIDE.fullmatch(name)
    wide = f"{known['of']}-{int(known['number'] or 1) + 1}" if known else f"{name}-wide"
    folder = Path() if path in built_in_studies() else path.parent
    return folder / f"{wide}.toml"


def _widened(
    study: str | Path, definition: StudyDefinition, stored: StoredStudy, file: Path
) -> StudyDefinition:
    """Writes the wider study's file; it wants as many trials again as the study does."""
    records = stored.records()
    advice = range_advice(definition, stored.settings, records)
    if not advice:
        complete = sum(r.state == "complete" and not r.is_replicate for r in records)
        few = f", which is told from {MIN_TRIALS} complete trials on" * (complete < MIN_TRIALS)
        raise InputError(
            f"--widen: the best of {complete} complete trials of study {definition.name} press "
            f"against no end of a range that could be wider{few}; leave it out to go on with the "
            "study, or write a study file with the ranges that you want"
        )
    target = sum(r.counts for r in records) + definition.search.trials
    overrides: dict[str, Any] = {"search.trials": target}
    for name, (low, high) in wider_ranges(advice).items():
        if name.startswith(RECIPE_PREFIX):
            was = definition.recipe_ranges[name.removeprefix(RECIPE_PREFIX)]
            kept = was.model_dump(include={"log", "prior"}, exclude_none=True)
            overrides[name] = {"low": float(low), "high": float(high)} | kept
        elif (prior := definition.priors.get(name)) is not None:
            wider = {"low": low, "high": high, "prior": prior.model_dump()}
            overrides[f"parameters.{name}"] = wider
        else:
            overrides[f"parameters.{name}"] = [low, high]
    changed = changed_definition(definition, overrides, None)
    wide = changed.model_copy(update={"name": file.stem})
    comment = f"Begun with the trials of {study} by betanas optimize --widen, since\n"
    try:
        write_whole(file, study_file(wide, comment + "\n".join(map(str, advice))))
    except OSError as error:
        raise InputError(
            f"--widen: {file} cannot be written ({error.strerror}); make its folder writable"
        ) from None
    return wide


def _check_wider(file: Path, narrow: StudyDefinition, wide: StudyDefinition) -> None:
    """Raises InputError for a file that says something else than the study with wider ranges."""
    old, new = narrow.meaning(), wide.meaning()
    changed = [
        key
        for key in sorted(old | new)
        if not key.startswith(("parameters.", "recipe_ranges.")) and old.get(key) != new.get(key)
    ]
    held = {p.name: p for p in wide.searched}
    changed += [
        p.name if p.name.startswith(RECIPE_PREFIX) else f"parameters.{p.name}"
        for p in narrow.searched
        if p.name not in held or not all(held[p.name].holds(end) for end in p.range)
    ]
    if changed:
        raise InputError(
            f"--widen: {file} is there already, and is not study {narrow.name} with wider ranges: "
            f"it differs in {', '.join(changed)}; move it away, or search it by its own name"
        )


def _with_meaning(settings: Settings, definition: StudyDefinition) -> Settings:
    return replace(settings, meaning=definition.meaning())
