"""The rows of a trial that belong together, written together.

Optuna writes each parameter, attribute and state in a transaction of its own, some thirty a trial.
These write its tables' rows within one transaction, which may hold the proof that the writer still
has the trial; all of Optuna's tools read them.
"""

import json
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import Any

from optuna.distributions import BaseDistribution, distribution_to_json
from optuna.storages._rdb import models
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy import Connection, delete, insert
from sqlalchemy.orm import Session

_Param, _Attribute = models.TrialParamModel, models.TrialUserAttributeModel
_Value, _Step = models.TrialValueModel, models.TrialIntermediateValueModel


def put_parameters(
    connection: Connection,
    trial_id: int,
    values: Mapping[str, Any],
    space: Mapping[str, BaseDistribution],
) -> None:
    """Writes parameters, in place of those of the same names."""
    rows = _parameter_rows(trial_id, values, space)
    mine = (_Param.trial_id == trial_id, _Param.param_name.in_(list(values)))
    connection.execute(delete(_Param).where(*mine))
    if rows:
        connection.execute(insert(_Param), rows)


def put_attributes(
    connection: Connection,
    facts: Mapping[int, Mapping[str, Any]],
    instead_of: Collection[str] | None = None,
) -> None:
    """Writes user attributes, in place of those of the same names.

    Args:
        connection: In a transaction.
        facts: ``trial id -> {key: value}``; values as JSON knows them.
        instead_of: Keys that all these trials lose first; those that are written otherwise.
    """
    keys = {key for of_one in facts.values() for key in of_one}
    old = list(keys if instead_of is None else instead_of)
    if old:
        connection.execute(
            delete(_Attribute).where(_Attribute.trial_id.in_(list(facts)), _Attribute.key.in_(old))
        )
    rows = [
        {"trial_id": trial_id, "key": key, "value_json": json.dumps(value)}
        for trial_id, of_one in facts.items()
        for key, value in of_one.items()
    ]
    if rows:
        connection.execute(insert(_Attribute), rows)


def put_steps(connection: Connection, trial_id: int, values: Mapping[int, float]) -> None:
    """Writes intermediate values of a trial at steps where it has none."""
    if values:
        connection.execute(insert(_Step), _step_rows(trial_id, values))


def begin_study(
    connection: Connection, study_id: int, facts: Mapping[str, Any], trials: Sequence[FrozenTrial]
) -> None:
    """Writes a study's user attributes and its first trials, with the numbers that they have."""
    with Session(connection) as session:
        session.add_all(
            models.StudyUserAttributeModel(study_id=study_id, key=key, value_json=json.dumps(value))
            for key, value in facts.items()
        )
        begun = [
            models.TrialModel(
                study_id=study_id,
                number=t.number,
                state=t.state,
                datetime_start=t.datetime_start,
                datetime_complete=t.datetime_complete,
            )
            for t in trials
        ]
        session.add_all(begun)
        session.flush()
        ids: list[Any] = [row.trial_id for row in begun]
    with_ids = list(zip(ids, trials, strict=True))
    params = [row for i, t in with_ids for row in _parameter_rows(i, t.params, t.distributions)]
    values = [row for i, t in with_ids for row in _value_rows(i, t)]
    steps = [row for i, t in with_ids for row in _step_rows(i, t.intermediate_values)]
    for table, rows in ((_Param, params), (_Value, values), (_Step, steps)):
        if rows:
            connection.execute(insert(table), rows)
    put_attributes(connection, {i: t.user_attrs for i, t in with_ids}, instead_of=())


def _parameter_rows(
    trial_id: int, values: Mapping[str, Any], space: Mapping[str, BaseDistribution]
) -> list[dict[str, Any]]:
    return [
        {
            "trial_id": trial_id,
            "param_name": name,
            "param_value": space[name].to_internal_repr(value),
            "distribution_json": distribution_to_json(space[name]),
        }
        for name, value in values.items()
    ]


def _value_rows(trial_id: int, trial: FrozenTrial) -> list[dict[str, Any]]:
    rows = []
    for objective, value in enumerate(trial.values or ()):
        stored, kind = _Value.value_to_stored_repr(value)
        rows.append(
            {"trial_id": trial_id, "objective": objective, "value": stored, "value_type": kind}
        )
    return rows


def _step_rows(trial_id: int, values: Mapping[int, float]) -> list[dict[str, Any]]:
    rows = []
    for step, value in values.items():
        stored, kind = _Step.intermediate_value_to_stored_repr(value)
        told = {"intermediate_value": stored, "intermediate_value_type": kind}
        rows.append({"trial_id": trial_id, "step": step} | told)
    return rows


def end_trial(
    connection: Connection,
    trial_id: int,
    facts: Mapping[str, Any],
    state: TrialState,
    values: Sequence[float],
) -> bool:
    """Ends a running trial in whole; False, and nothing is written, if it has ended already.

    Args:
        connection: In a transaction.
        trial_id: The trial.
        facts: User attributes.
        state: How it has ended.
        values: One an objective; empty for none.
    """
    with Session(connection) as session:
        trial = models.TrialModel.find_or_raise_by_id(trial_id, session, for_update=True)
        if trial.state != TrialState.RUNNING:
            return False
        trial.state = state
        trial.datetime_complete = datetime.now()  # noqa: DTZ005 - Optuna's, of local time
        for objective, value in enumerate(values):
            stored, kind = models.TrialValueModel.value_to_stored_repr(value)
            session.add(
                models.TrialValueModel(
                    trial_id=trial_id, objective=objective, value=stored, value_type=kind
                )
            )
        session.flush()
    put_attributes(connection, {trial_id: facts})
    return True
