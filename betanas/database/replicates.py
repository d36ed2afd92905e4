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
        return (known.get(REPEATS), known.get(SEED_INDEX)) == (self.repeats, self.seed_index)


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
    study, leases = stored.study, Leases(stored.database.engine)
    found = _trial(study, replicate)
    if found is not None and found.state.is_finished():
        return None
    lease = leases.claim(f"confirm/{study._study_id}/{replicate.repeats}/{replicate.seed_index}")
    if lease is None:
        return None
    found = _trial(study, replicate)  # by the worker that held the lease until now, perhaps
    if found is not None and found.state.is_finished():
        leases.release(lease)
        return None
    if found is not None:
        return ClaimedTrial(optuna.Trial(study, found._trial_id), lease)
    begun = optuna.trial.create_trial(
        state=TrialState.RUNNING,
        params={name: replicate.parameters[name] for name in space},
        distributions=dict(space),
        user_attrs={
            "phase": str(Phase.CONFIRM),
            REPEATS: replicate.repeats,
            SEED_INDEX: replicate.seed_index,
            WORKER_KEY: current_worker(),
        },
    )
    trial_id = study._storage.create_new_trial(study._study_id, template_trial=begun)
    claimed = ClaimedTrial(optuna.Trial(study, trial_id), lease)
    if leases.renew(lease):
        return claimed
    # Frozen since it had the lease, this worker comes late: the other one's trial stands.
    with suppress(UpdateFinishedTrialError, ValueError):
        claimed.trial.set_user_attr("reason", "superseded")
        study.tell(claimed.number, state=TrialState.PRUNED)
    return None


def _trial(study: optuna.Study, replicate: Replicate) -> FrozenTrial | None:
    same = [
        t
        for t in study.get_trials(deepcopy=False)
        if replicate.is_trial(t) and t.user_attrs.get("reason") != "superseded"
    ]
    return same[0] if same else None
