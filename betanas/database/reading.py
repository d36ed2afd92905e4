"""Optuna's trials and a study's own attribute in our words."""

import math
import warnings
from collections.abc import Sequence

import optuna
from optuna.trial import FrozenTrial, TrialState

from betanas.database.settings import SCHEMA, Settings
from betanas.errors import StorageError
from betanas.trial import COLUMNS, TrialRecord

SETTINGS_KEY = "betanas"


def read_record(frozen: FrozenTrial, objectives: Sequence[str]) -> TrialRecord:
    """A trial in our words; one that somebody else gave an infinite value, or none, has none."""
    attributes = frozen.user_attrs
    complete = frozen.state is TrialState.COMPLETE
    values: Sequence[float] = (frozen.values or ()) if complete else ()
    if not all(map(math.isfinite, values)):
        values = ()
    return TrialRecord(
        number=frozen.number,
        state=frozen.state.name.lower(),
        value=values[0] if values else None,
        values=dict(zip(objectives, values, strict=False)) if len(objectives) > 1 else {},
        parameters=dict(frozen.params),
        audit={key: value for key, value in attributes.items() if key not in COLUMNS},
        **{key: attributes.get(key) for key in COLUMNS},
    )


def read_settings(study: optuna.Study, name: str) -> Settings:
    """What was decided when a study began.

    Raises:
        StorageError: If it is not ours, or a newer BetaNAS's.
    """
    data = study.user_attrs.get(SETTINGS_KEY)
    if data is None:
        raise StorageError(
            f"the database has a study {name} that was not begun by betanas optimize; "
            "use another database, or give the study file another name"
        )
    if data["schema"] > SCHEMA:
        raise StorageError(
            f"study {name} was written by a newer BetaNAS (schema {data['schema']}, "
            f"this one reads {SCHEMA}); upgrade: pip install --upgrade betanas"
        )
    return Settings.from_json(data)


def settle_directions(study: optuna.Study, name: str, fresh: Settings) -> None:
    """Holds what an earlier attempt to begin a study has left against what it is to be now.

    Raises:
        StorageError: If that was to have another number of objectives.
    """
    if len(study.directions) != len(fresh.objectives):
        raise StorageError(
            f"study {name} was about to begin with {len(study.directions)} objectives, but its "
            f"file has {', '.join(fresh.objectives)}; change them back, or give the study file "
            "another name"
        )
    if len(fresh.objectives) > 1:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Optuna's names of objectives are experimental
            study.set_metric_names(list(fresh.objectives))
