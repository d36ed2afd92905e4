"""A study that begins with the trials of another one, whose ranges its own ones hold."""

import time
from collections.abc import Mapping
from datetime import datetime

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution
from optuna.trial import FrozenTrial, TrialState

from betanas.database.connect import open_database, opening, parse_url
from betanas.database.leases import Leases
from betanas.database.reading import SETTINGS_KEY
from betanas.database.replicates import UNFINISHED
from betanas.database.rows import begin_study
from betanas.database.settings import Settings
from betanas.database.stored import StoredStudy

COPIED_FROM = "copied_from"  # the user attribute with the name of a copied trial's first study
_PAUSE_SECONDS = 0.1


def begin_with_trials(
    url: str,
    name: str,
    settings: Settings,
    source: StoredStudy,
    space: Mapping[str, BaseDistribution],
) -> StoredStudy:
    """Begins a study with all trials of another one; one that has begun is opened as it is.

    The trials keep their numbers, times and attributes, so that what names a trial of the source
    names the same one here, and the search goes on with the number after them. Settings and trials
    are written in one transaction: a study has all of them or has not begun.

    Args:
        url: Database of the new study.
        name: Of the new study.
        settings: What is decided for it.
        source: Whose trials are copied; it may be running.
        space: The new study's parameters. All trials get their distributions, not those of the
            source: Optuna's own tools take parameters of two ranges for two parameters.

    Raises:
        StorageError: If there is a study of that name which is not ours.
    """
    database = open_database(url)
    with opening(parse_url(url)):
        study = optuna.create_study(
            study_name=name, storage=database, direction="maximize", load_if_exists=True
        )
        leases = Leases(database.engine)
        while SETTINGS_KEY not in study.user_attrs and not study.get_trials(deepcopy=False):
            lease = leases.claim(f"setup/{study._study_id}")
            if lease is None:  # somebody else is at it
                time.sleep(_PAUSE_SECONDS)
                continue
            leases.forget_deleted(study._study_id)
            facts, name_of_source = {SETTINGS_KEY: settings.to_json()}, source.study.study_name
            trials = [_copy(t, name_of_source, space) for t in source.study.get_trials()]
            with leases.bearing(lease) as connection:
                begin_study(connection, study._study_id, facts, trials)
    database.engine.dispose()
    return StoredStudy.load(url, name)


def _copy(trial: FrozenTrial, study: str, space: Mapping[str, BaseDistribution]) -> FrozenTrial:
    """A trial as the new study has it; its number and id are given to it there."""
    facts = {COPIED_FROM: study, **trial.user_attrs}
    ended, now = trial.state.is_finished(), datetime.now()  # noqa: DTZ005 - Optuna's, of local time
    return FrozenTrial(
        number=trial.number,
        trial_id=trial.number,
        state=trial.state if ended else TrialState.PRUNED,
        value=trial.value if ended else None,
        datetime_start=trial.datetime_start or now,
        datetime_complete=trial.datetime_complete or now,
        params=trial.params,
        distributions={n: _wider(own, space.get(n)) for n, own in trial.distributions.items()},
        user_attrs=facts if ended else facts | {"reason": UNFINISHED},
        system_attrs={},
        intermediate_values=trial.intermediate_values,
    )


def _wider(own: BaseDistribution, wide: BaseDistribution | None) -> BaseDistribution:
    """The new study's distribution, unless somebody else's trial means something else by a name."""
    alike = type(wide) is type(own) and not isinstance(own, CategoricalDistribution)
    return wide if wide is not None and alike else own
