"""A study in its database: the only place that translates between Optuna's words and ours."""

import math
import time
from collections.abc import Collection, Mapping, Sequence
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass, replace
from typing import Any, Self

import optuna
from optuna.distributions import BaseDistribution
from optuna.exceptions import StorageInternalError
from optuna.storages import RDBStorage
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy.exc import SQLAlchemyError

from betanas.architecture.complexity import Complexity
from betanas.architecture.family import Kernel
from betanas.database.connect import no_study, open_database, opening, parse_url, sqlite_file
from betanas.database.leases import Lease, Leases, LostLeaseError, current_worker
from betanas.database.patience import patient
from betanas.database.reading import (
    SETTINGS_KEY,
    read_record,
    read_settings,
    settle_directions,
)
from betanas.database.rows import end_trial, put_attributes, put_parameters, put_steps
from betanas.database.settings import Settings, refuse_change
from betanas.errors import NoStudyError
from betanas.study.sections import ACCURACY
from betanas.trial import PACE, REPEATS, STOPPED_EARLY, TrainingResult, TrialRecord

WORKER_KEY = "worker"
REFERENCE = "betanas:reference"  # the point from which a front's hypervolume counts
SETUP_SECONDS = 30.0


@dataclass(frozen=True, slots=True)
class ClaimedTrial:
    """A trial that this worker, and nobody else, works on."""

    trial: optuna.Trial
    lease: Lease

    @property
    def number(self) -> int:
        """Its number in the study, from 0."""
        return int(self.trial.number)

    @property
    def frozen(self) -> FrozenTrial:
        """Optuna's view of it when it was claimed."""
        return self.trial._cached_frozen_trial


class StoredStudy:
    """One study in its database.

    Args:
        database: Where it is.
        study: Optuna's view of it.
        settings: What was decided when it began.
    """

    def __init__(self, database: RDBStorage, study: optuna.Study, settings: Settings) -> None:
        self.database = database
        self.study = study
        self.settings = settings
        self.objectives = settings.objectives
        self._leases = Leases(database.engine)
        self._ended: dict[int, TrialRecord] = {}

    @classmethod
    def load(cls, url: str, name: str) -> Self:
        """Opens a study that has begun.

        Raises:
            StorageError: If there is none of that name, or it is not ours.
        """
        file = sqlite_file(url)
        if file is not None and not file.exists():
            raise NoStudyError(no_study(name, url))
        database = open_database(url)
        try:
            with opening(parse_url(url)):
                study = optuna.load_study(study_name=name, storage=database)
                # One without settings and trials is about to be begun by another worker.
                if SETTINGS_KEY in study.user_attrs or study.get_trials(deepcopy=False):
                    return cls(database, study, read_settings(study, name))
                raise NoStudyError(no_study(name, url))
        except KeyError:
            raise NoStudyError(no_study(name, url)) from None

    @classmethod
    def begin(cls, url: str, name: str, fresh: Settings) -> Self:
        """Opens a study, or begins it with these settings if nobody has.

        Raises:
            StorageError: If it has begun with another meaning, naming the keys.
        """
        database = open_database(url)
        with opening(parse_url(url)):
            fall = [StudyDirection.MINIMIZE] * (len(fresh.objectives) - 1)
            study = optuna.create_study(
                study_name=name,
                storage=database,
                directions=[StudyDirection.MAXIMIZE, *fall],
                load_if_exists=True,
            )
            leases = Leases(database.engine)
            deadline = time.monotonic() + SETUP_SECONDS
            while SETTINGS_KEY not in study.user_attrs:
                if study.get_trials(deepcopy=False):
                    break
                lease = leases.claim(f"setup/{study._study_id}")
                if lease is not None or time.monotonic() > deadline:
                    if SETTINGS_KEY not in study.user_attrs:  # by whoever had the lease before
                        leases.forget_deleted(study._study_id)
                        settle_directions(study, name, fresh)
                        study.set_user_attr(SETTINGS_KEY, fresh.to_json())
                    if lease is not None:
                        leases.release(lease)
                    break
                time.sleep(0.1)
            stored = cls(database, study, read_settings(study, name))
        stored.refuse_change(fresh)
        return stored

    def disconnect(self) -> None:
        """Closes all connections, which forks must not share; the next question opens others."""
        self.database.remove_session()
        self.database.engine.dispose()

    def refuse_change(self, fresh: Settings) -> None:
        """Raises StorageError, naming what differs, if the study has begun with another meaning."""
        refuse_change(self.study.study_name, self.settings, fresh, self.records())

    @patient
    def claim(self) -> ClaimedTrial:
        """Takes over the trial of a worker that is gone, or begins a new one."""
        self.study._thread_local.cached_all_trials = None  # as study.ask() has it
        for frozen in self.study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
            if REPEATS in frozen.user_attrs or WORKER_KEY not in frozen.user_attrs:
                continue  # confirm's own workers take it over, or it is none of ours
            claimed = self._claim(frozen._trial_id, frozen.user_attrs[WORKER_KEY])
            if claimed is not None:
                return claimed
        while True:
            # Not study.ask(): a trial must name its worker from its first moment, or the trial of
            # one that dies before it has a lease could not be told from a living one's.
            begun = optuna.trial.create_trial(
                state=TrialState.RUNNING, user_attrs={WORKER_KEY: current_worker()}
            )
            claimed = self._claim(
                self.study._storage.create_new_trial(self.study._study_id, template_trial=begun),
                None,
            )
            if claimed is not None:
                return claimed

    def _claim(self, trial_id: int, worker: str | None) -> ClaimedTrial | None:
        """Claims a running trial that nobody holds; ``worker`` is who began it."""
        lease = self._leases.claim(f"trial/{trial_id}", begun_by=worker)
        if lease is None:
            return None
        trial = optuna.Trial(self.study, trial_id)
        # It may have ended since it was seen running; from here on only we can end it.
        ended = trial._cached_frozen_trial.state.is_finished()
        return None if ended else ClaimedTrial(trial, lease)

    @patient
    def kernel(self, claimed: ClaimedTrial, names: Collection[str]) -> Kernel:
        """What an earlier worker has recorded of the trial's kernel; mostly all of it, or nothing.

        Args:
            claimed: Whose kernel.
            names: All parameters.
        """
        known = self.study._storage.get_trial(claimed.trial._trial_id).params
        return {name: known[name] for name in names if name in known}

    @patient
    def earlier_lack_kernel(self, claimed: ClaimedTrial, names: Collection[str]) -> bool:
        """Whether a trial of another worker's that began before this one has no kernel yet."""
        running = self.study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))
        before = [t for t in running if t.number < claimed.number and WORKER_KEY in t.user_attrs]
        return not all(t.params.keys() >= set(names) for t in before)

    @patient
    def put_kernel(
        self,
        claimed: ClaimedTrial,
        kernel: Kernel,
        space: Mapping[str, BaseDistribution],
        facts: Mapping[str, Any],
    ) -> None:
        """Records the trial's kernel, and what is to be said of its choice.

        Raises:
            LostLeaseError: If another worker has the trial now.
        """
        with self._leases.bearing(claimed.lease) as connection:
            put_parameters(connection, claimed.trial._trial_id, kernel, space)
            put_attributes(connection, {claimed.trial._trial_id: facts})

    @patient
    def counted(self) -> int:
        """How many trials count towards ``search.trials``."""
        return sum(record.counts for record in self.records())

    def report(
        self,
        claimed: ClaimedTrial,
        percent: int,
        accuracy: float | None,
        pace: float | None = None,
    ) -> bool:
        """Records what a trial tells on the way; true if the study's pruner gives it up for that.

        Args:
            claimed: Which trial.
            percent: Of the budget that is spent; what comes twice counts once.
            accuracy: The best so far; None before the first evaluation.
            pace: Passes over the training images that the budget allows at the speed so far.
        """
        # A database that is away loses this point of the curve for pruner and dashboard; the
        # result itself has them all.
        with suppress(SQLAlchemyError, StorageInternalError, LostLeaseError):
            trial_id = claimed.trial._trial_id
            known = self.study._storage.get_trial(trial_id)
            paces, facts, steps = known.user_attrs.get(PACE, {}), {}, {}
            if pace is not None and str(percent) not in paces:
                facts[PACE] = paces | {str(percent): pace}
            if accuracy is not None and percent not in known.intermediate_values:
                steps[percent] = accuracy
            if facts or steps:
                # Both or none: whoever takes the trial over decides by all that is known of it.
                with self._leases.bearing(claimed.lease) as connection:
                    put_attributes(connection, {trial_id: facts})
                    put_steps(connection, trial_id, steps)
            return self.study.pruner.prune(self.study, self.study._storage.get_trial(trial_id))
        return False

    def alone(self, what: str) -> AbstractContextManager[None]:
        """Has one of all machines' workers at a time do something short to the study."""
        return self._leases.held(f"{what}/{self.study._study_id}")

    def renew(self, claimed: ClaimedTrial) -> None:
        """Keeps a claim alive; a database that is away at this moment is asked again next time.

        Raises:
            LostLeaseError: If another worker has the trial now.
        """
        with suppress(SQLAlchemyError):
            if not self._leases.renew(claimed.lease):
                raise LostLeaseError(f"trial {claimed.number} has been taken over")

    @patient
    def count_attempt(self, claimed: ClaimedTrial) -> ClaimedTrial:
        """Notes that the trial's processes were killed, before it is trained again."""
        return replace(claimed, lease=self._leases.count_attempt(claimed.lease))

    def release(self, claimed: ClaimedTrial) -> None:
        """Gives an unfinished trial back: the next worker goes on with it."""
        with suppress(SQLAlchemyError):  # a claim that cannot be given back ends by itself
            self._leases.release(claimed.lease)

    @patient
    def describe(
        self, claimed: ClaimedTrial, phase: str, costs: Complexity, fingerprint: str | None
    ) -> None:
        """Records what is known of a trial before its training.

        Raises:
            LostLeaseError: If another worker has the trial now.
        """
        facts: dict[str, Any] = {"phase": phase}
        if fingerprint is not None:
            facts |= {
                "num_params": costs.num_params,
                "macs": costs.macs,
                "activation_bytes": costs.activation_bytes,
                "fingerprint": fingerprint,
            }
        with self._leases.bearing(claimed.lease) as connection:
            put_attributes(connection, {claimed.trial._trial_id: facts})

    @patient
    def reject(
        self, claimed: ClaimedTrial, reason: str, facts: Mapping[str, Any] | None = None
    ) -> bool:
        """Records a trial that was not worth training, as ``finish`` does.

        Args:
            claimed: Whose.
            reason: Which limit it breaks.
            facts: More for the trial's audit.
        """
        return self._end(claimed, {"reason": reason, **(facts or {})}, TrialState.PRUNED)

    @patient
    def finish(
        self,
        claimed: ClaimedTrial,
        result: TrainingResult,
        values: Sequence[float] | None = None,
        circumstances: Mapping[str, Any] | None = None,
    ) -> bool:
        """Records a result, once; False if the trial was another worker's by then.

        Args:
            claimed: Whose.
            result: What was measured.
            values: One an objective; the result's own value if left out.
            circumstances: More for the trial's audit, which the training itself did not know.
        """
        facts = result.to_json() | dict(circumstances or {})
        for key in ("value", "failure", "message", "stopped"):
            facts.pop(key)
        for key in ("latency", "supernet"):
            if facts[key] is None:
                facts.pop(key)
        if result.stopped:
            last = self._last_accuracy(claimed)
            return self._end(claimed, facts | {"reason": STOPPED_EARLY}, TrialState.PRUNED, last)
        if result.value is not None and math.isfinite(result.value):
            values = (result.value,) if values is None else values
            if values[0] != result.value:  # the accuracy is but a part of it
                facts |= {ACCURACY: result.value}
            return self._end(claimed, facts, TrialState.COMPLETE, values)
        facts |= {"reason": str(result.failure), "message": result.message}
        return self._end(claimed, facts, TrialState.FAIL)

    def _end(
        self,
        claimed: ClaimedTrial,
        facts: Mapping[str, Any],
        state: TrialState,
        values: Sequence[float] = (),
    ) -> bool:
        """Ends a trial in one transaction, in which the claim is checked too (fencing)."""
        try:
            with self._leases.bearing(claimed.lease) as connection:
                if end_trial(connection, claimed.trial._trial_id, facts, state, values):
                    return True
        except LostLeaseError:
            return False
        # An earlier try of ours was recorded although its answer was lost.
        return self.record(claimed.number).state == state.name.lower()

    def _last_accuracy(self, claimed: ClaimedTrial) -> tuple[float, ...]:
        """What Optuna has as the value of a trial that its pruner has stopped."""
        frozen = self.study._storage.get_trial(claimed.trial._trial_id)
        return () if frozen.last_step is None else (frozen.intermediate_values[frozen.last_step],)

    @property
    def reference(self) -> dict[str, float] | None:
        """``objective -> value`` from which hypervolumes count; None before it is recorded."""
        found: dict[str, float] | None = self.study.user_attrs.get(REFERENCE)
        return found

    @patient
    def put_reference(self, point: Mapping[str, float]) -> None:
        """Records from where hypervolumes count, for all workers and for good."""
        if self.reference is None:
            self.study.set_user_attr(REFERENCE, dict(point))

    @patient
    def read_settings(self) -> None:
        """Reads the settings again: another worker may have put operators into them."""
        self.settings = read_settings(self.study, self.study.study_name)

    @patient
    def put_operators(self, table: Mapping[str, Any]) -> None:
        """Records what training steps are made of, and what that takes, for all workers."""
        self.settings = replace(self.settings, operators=table)
        self.study.set_user_attr(SETTINGS_KEY, self.settings.to_json())

    @patient
    def record(self, number: int) -> TrialRecord:
        """One trial, by number."""
        return self._record(self.study.get_trials(deepcopy=False)[number])

    @patient
    def records(self) -> list[TrialRecord]:
        """All trials, by number."""
        return [self._record(t) for t in self.study.get_trials(deepcopy=False)]

    def _record(self, frozen: FrozenTrial) -> TrialRecord:
        """A trial in our words; one that has ended is put into them once, as Optuna reads it once.

        With thousands of trials that is most of the time that a proposal takes.
        """
        ended = self._ended.get(frozen.number)
        if ended is not None:
            return ended
        record = read_record(frozen, self.objectives)
        if frozen.state.is_finished():
            self._ended[frozen.number] = record
        return record
