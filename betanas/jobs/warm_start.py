"""A study that begins with what another one has measured: where that is, and what is kept of it.

What the other study told is recorded in the new one when it begins, so that every worker, and every
later one, has the same, whatever has become of the other.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from betanas.architecture.limits import Rejection
from betanas.arrays import FloatArray, IntArray
from betanas.database.settings import Settings
from betanas.database.stored import StoredStudy
from betanas.errors import (
    InputError,
    KernelError,
    NoStudyError,
    StudyFileError,
    without_password,
)
from betanas.jobs.load import default_url, open_begun, storage_url
from betanas.parameters import Choice, Parameter, Real
from betanas.search.plan import StudyProblem, study_problem
from betanas.search.recommend import source_weight
from betanas.search.warm_start import WarmStart, opening_kernels
from betanas.study.definition import StudyDefinition
from betanas.study.loading import find_study, load_definition
from betanas.trial import TrialRecord

MOST = 200  # trials that are kept of a source: half of them its best, others from all its ranks
_LEAST = 2  # that a model takes


def with_source(definition: StudyDefinition, settings: Settings, url: str) -> Settings:
    """The settings of a study that is to begin, with what ``search.warm_start`` has measured.

    Args:
        definition: The study file.
        settings: Without.
        url: The study's database, where the source is looked for first.

    Raises:
        InputError: If there is no such study, it is of another family, or it has measured nothing
            that the study could use.
    """
    asked = definition.search.warm_start
    if asked is None:
        return settings
    source = _open(asked, definition, url)
    try:
        family = source.settings.meaning["family"]
        if family != definition.family:
            raise InputError(
                f"search.warm_start = {asked}: that study searches {family}, but study "
                f"{definition.name} searches {definition.family}; name a study of that family"
            )
        told = _told(study_problem(definition, settings), definition, source)
    finally:
        source.disconnect()
    if len(told.values) < _LEAST:
        raise InputError(
            f"search.warm_start = {asked}: {len(told.values)} of its trials are complete, with a "
            f"kernel that means something in study {definition.name}, but at least {_LEAST} are "
            "wanted; let it go on first, name another study, or leave it out"
        )
    return replace(settings, warm_start=told.to_json())


def with_opening(definition: StudyDefinition, settings: Settings) -> Settings:
    """Settings with the source's kernels that are tried first; all else is decided by now."""
    if settings.warm_start is None:
        return settings
    problem = study_problem(definition, settings)
    chosen = [problem.space.kernel(kernel) for kernel in opening_kernels(problem)]
    told = replace(WarmStart.from_json(settings.warm_start), opening=tuple(chosen))
    return replace(settings, warm_start=told.to_json())


def check_source(definition: StudyDefinition, settings: Settings) -> None:
    """Holds ``search.warm_start``, if it is given, against what a study has begun with.

    Raises:
        InputError: If that is another one: trials that are there cannot begin anew.
    """
    asked = definition.search.warm_start
    if asked is None:
        return
    told = settings.warm_start
    begun = None if told is None else WarmStart.from_json(told).study
    if begun != _name(asked):
        has = f"from {begun}" if begun else "without another study"
        raise InputError(
            f"search.warm_start = {asked}: study {definition.name} has begun {has}, which stays; "
            "leave it out, or give the study file another name to begin a new study"
        )


@dataclass(frozen=True, slots=True)
class BegunFrom:
    """Another study that one began from.

    Attributes:
        study: Its name.
        kernels: How many of its trials are known to this one.
        tried_first: How many of them opened this one.
        weight: Of its guess in this one's model, as the trials so far bear it out: standardised
            values here that a standardised one of it is taken for, >= 0; see ``search/prior.py``.
    """

    study: str
    kernels: int
    tried_first: int
    weight: float

    def __str__(self) -> str:
        return (
            f"{self.study}: {self.kernels} of its trials are known, {self.tried_first} of their "
            f"kernels were tried first; its guess has weight {self.weight:.2f}"
        )


def begun_from(
    definition: StudyDefinition,
    settings: Settings,
    records: Sequence[TrialRecord],
    weight: float | None = None,
) -> BegunFrom | None:
    """What a study has made of another one so far.

    Args:
        definition: The study file.
        settings: What was decided when the study began.
        records: All its trials.
        weight: That of the source, if a model of the same trials is there; else one is fitted.

    Returns:
        None for a study that began from no other.
    """
    if settings.warm_start is None:
        return None
    told = WarmStart.from_json(settings.warm_start)
    if weight is None:
        weight = source_weight(study_problem(definition, settings), records)
    return BegunFrom(told.study, len(told.kernels), len(told.opening), weight)


def _name(asked: str) -> str:
    """The study's name in its database."""
    path = Path(asked)
    return path.stem if path.suffix == ".toml" or len(path.parts) > 1 else asked


def _open(asked: str, definition: StudyDefinition, url: str) -> StoredStudy:
    """Opens the source: in the study's own database, or where the source's file says."""
    name, tried = _name(asked), [url]
    place = f"search.warm_start = {asked}"
    if name != definition.name:
        try:
            return StoredStudy.load(url, name)
        except NoStudyError:
            pass
    try:
        find_study(asked)
    except StudyFileError as error:
        raise InputError(
            f"{place}: {without_password(url)} has no study {name}, and {error}"
        ) from None
    theirs = load_definition(asked)
    for other in _databases(theirs):
        if other in tried:
            continue
        tried.append(other)
        try:
            return open_begun(theirs, other)
        except NoStudyError:
            pass
    if name == definition.name and len(tried) == 1:
        raise InputError(f"{place}: that is the study itself; name another one, or leave it out")
    looked = " nor ".join(without_password(other) for other in tried)
    raise InputError(
        f"{place}: it has not begun, neither in {looked}; begin it with: betanas optimize "
        f"--study {asked}, or name a study that has trials"
    )


def _databases(theirs: StudyDefinition) -> Iterator[str]:
    """Where commands look for a study, and where they do without BETANAS_STORAGE."""
    yield storage_url(theirs, None)
    yield storage_url(theirs, theirs.storage.url or default_url(theirs.name))


def _told(problem: StudyProblem, definition: StudyDefinition, source: StoredStudy) -> WarmStart:
    """What a source's complete trials say of kernels of a problem's parameters.

    A parameter that the source has not searched has the study file's value. Kernels stay that lie
    outside of the study's ranges, or break its limits, but not those that are no network at its
    resolution, nor those with options that the study does not have.
    """
    parameters = problem.space.parameters
    kernels, values = [], []
    for record in source.records():
        if record.state != "complete" or record.value is None or not np.isfinite(record.value):
            continue
        kernel = definition.beside | dict(record.parameters)
        if all(_means(p, kernel) for p in parameters):
            kernels.append({p.name: kernel[p.name] for p in parameters})
            values.append(record.value)
    vectors = problem.space.vectors(kernels)
    found = np.array(values, dtype=np.float64)
    verdicts = problem.rules.check(vectors)
    are = [verdicts.reason(i) is not Rejection.NO_CONTRACTION for i in range(len(found))]
    kept = np.flatnonzero(are)
    kept = kept[_spread(found[kept])]
    return WarmStart(
        source.study.study_name,
        tuple(kernels[i] for i in kept),
        tuple(float(found[i]) for i in kept),
    )


def _means(parameter: Parameter, kernel: Mapping[str, Any]) -> bool:
    """Whether a kernel has a value of a parameter; a number may lie outside of what is searched."""
    if parameter.name not in kernel:
        return False
    value = kernel[parameter.name]
    if isinstance(parameter, Choice):
        return parameter.holds(value)
    try:
        parameter.check(value, parameter.widest)
    except KernelError:
        return False
    return not (isinstance(parameter, Real) and parameter.log and value <= 0)


def _spread(values: FloatArray) -> IntArray:
    """Indices of at most ``MOST`` of n values: the best, and others evenly over the ranks."""
    order, best = np.argsort(-values, kind="stable"), MOST // 2
    if len(values) > MOST:
        others = np.linspace(best, len(values) - 1, MOST - best).round().astype(np.int64)
        order = order[np.concatenate([np.arange(best), others])]
    return np.sort(order)
