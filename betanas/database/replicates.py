"""Trainings of the same network with other seeds: trials of the study that no search asked for.

A replicate is a trial of its own, phase ``confirm``, that names what it repeats. It carries its
kernel from its first moment, so it never asks a sampler, and the search's workers leave it alone.
"""

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import optuna
from optuna.distributions import BaseDistribution
from optuna.exceptions import UpdateFinishedTrialError
from optuna.trial import FrozenTrial, TrialState

from betanas.database.leases import Leases, current_worker
from betanas.database.patience import patient
from betanas.database.stored import WORKER_KEY, ClaimedTrial, StoredStudy
from betanas.trial import REPEATS, SEED_INDEX, Phase

SUPERSEDED = "superseded"  # the reason of a trial that another worker has begun as well
UNFINISHED = "unfinished"  # the reason of a trial that had not ended when it was copied
VOID = (SUPERSEDED, UNFINISHED)  # such a trial is none


@dataclass(frozen=True)
class Replicate:
    """One training to be repeated.

    Attributes:
        repeats: Number of the trial, or the name of a kernel that no trial had.
        seed_index: From 0: which of its replicates.
        parameters: What is trained.
    """

    repeats: int | str
    seed_index: int
    parameters: Mapping[str, Any]

    def is_trial(self, frozen: FrozenTrial) -> bool:
        """Whether a trial is this replicate."""
        known = frozen.user_attrs
        own = (known.get(REPEATS), known.get(SEED_INDEX)) == (self.repeats, self.seed_index)
        return own and known.get("reason") not in VOID


@patient
def claim_replicate(
    stored: StoredStudy, replicate: Replicate, space: Mapping[str, BaseDistribution]
) -> ClaimedTrial | None:
    """Begins a replicate, or takes over one whose worker is gone.

    Args:
        stored: The study.
        replicate: Which.
        space: The study's parameters.

    Returns:
        None if it has ended, or another worker is at it.
    """
    return claim_known(
        stored,
        f"confirm/{stored.study._study_id}/{replicate.repeats}/{replicate.seed_index}",
        {REPEATS: replicate.repeats, SEED_INDEX: replicate.seed_index},
        {"phase": str(Phase.CONFIRM)},
        {name: replicate.parameters[name] for name in space},
        space,
    )


def claim_known(
    stored: StoredStudy,
    resource: str,
    marks: Mapping[str, Any],
    facts: Mapping[str, Any],
    parameters: Mapping[str, Any],
    space: Mapping[str, BaseDistribution],
) -> ClaimedTrial | None:
    """Begins a trial whose kernel is known before it, or takes it over from a worker that is gone.

    Args:
        stored: The study.
        resource: What the lease is of.
        marks: User attributes by which the trial is known: there is one of them at most.
        facts: Its other user attributes.
        parameters: What is trained.
        space: The study's parameters.

    Returns:
        None if it has ended, or another worker is at it.
    """
    study, leases = stored.study, Leases(stored.database.engine)
    found = _trial(study, marks)
    if found is not None and found.state.is_finished():
        return None
    lease = leases.claim(resource)
    if lease is None:
        return None
    found = _trial(study, marks)  # by the worker that held the lease until now, perhaps
    if found is not None and found.state.is_finished():
        leases.release(lease)
        return None
    if found is not None:
        return ClaimedTrial(optuna.Trial(study, found._trial_id), lease)
    begun = optuna.trial.create_trial(
        state=TrialState.RUNNING,
        params=dict(parameters),
        distributions=dict(space),
        user_attrs={**facts, **marks, WORKER_KEY: current_worker()},
    )
    trial_id = study._storage.create_new_trial(study._study_id, template_trial=begun)
    claimed = ClaimedTrial(optuna.Trial(study, trial_id), lease)
    if leases.renew(lease):
        return claimed
    # Frozen since it had the lease, this worker comes late: the other one's trial stands.
    with suppress(UpdateFinishedTrialError, ValueError):
        claimed.trial.set_user_attr("reason", SUPERSEDED)
        study.tell(claimed.number, state=TrialState.PRUNED)
    return None


def _trial(study: optuna.Study, marks: Mapping[str, Any]) -> FrozenTrial | None:
    for trial in study.get_trials(deepcopy=False):
        known = trial.user_attrs
        if known.get("reason") not in VOID and marks.items() <= known.items():
            return trial
    return None
