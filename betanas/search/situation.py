"""A database's content as the strategies see it; anybody may have written into that database."""

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from optuna import Study
from optuna.trial import FrozenTrial, TrialState

from betanas.arrays import FloatArray
from betanas.database.stored import REFERENCE
from betanas.search.acquisition import moved_inside
from betanas.search.foresight import foresee, last_percent, told_by
from betanas.search.front import as_points, ranks, reference_point
from betanas.search.learnt import is_too_slow, taught
from betanas.search.problem import Problem
from betanas.search.rules import Rules
from betanas.search.space import Space
from betanas.trial import STOPPED_EARLY, Failure, measured_ms

PROPOSED = "betanas:proposed"  # the system attribute with a kernel that no parameter tells yet
_LEAST_GAINS = 2  # complete trials whose gains tell what a stopped one would have gained


@dataclass(frozen=True)
class Stopped:
    """Trials that a pruner ended, ours or Optuna's, with what they would have come to.

    What a trial had reached is less than it would have come to. That is foreseen from all trials
    that are complete by now (``foresight.py``). While they are too few, it is expected to gain what
    they gained, on average, from that share of their budgets on; where fewer than two tell, nothing
    is expected. The deviation of what is expected is what the model is told as noise of this
    observation alone.

    Attributes:
        kernels: ``s x d``.
        values: Expected values at the budget's end, ``s``; NaN where nothing is expected.
        stds: Standard deviations of the expected values, ``s``.
    """

    kernels: FloatArray
    values: FloatArray
    stds: FloatArray

    @classmethod
    def of(
        cls, space: Space, stopped: Sequence[FrozenTrial], complete: Sequence[FrozenTrial]
    ) -> "Stopped":
        """Reads stopped trials, and complete ones for comparison."""
        expected = np.array([_gained(trial, complete) for trial in stopped]).reshape(-1, 2)
        for alike, percent in _alike(stopped):
            foresight = foresee([stopped[i] for i in alike], complete, percent)
            if foresight is not None:
                expected[alike] = np.column_stack([foresight.values, foresight.stds])
        return cls(space.vectors([t.params for t in stopped]), expected[:, 0], expected[:, 1])

    @property
    def expected(self) -> "Stopped":
        """Those of which something is expected."""
        known = np.isfinite(self.values)
        return Stopped(self.kernels[known], self.values[known], self.stds[known])


def _alike(stopped: Sequence[FrozenTrial]) -> list[tuple[list[int], int]]:
    """Places of trials of which the same is known at the same per cent; and that per cent."""
    groups: dict[tuple[int, tuple[str, ...]], list[int]] = {}
    for place, trial in enumerate(stopped):
        percent = last_percent(trial)
        if percent is not None:
            groups.setdefault((percent, tuple(told_by(trial, percent))), []).append(place)
    return [(places, percent) for (percent, _), places in groups.items()]


def _gained(trial: FrozenTrial, complete: Sequence[FrozenTrial]) -> tuple[float, float]:
    """Value at the budget's end, and its deviation, from what complete trials gained."""
    if not trial.intermediate_values:
        return np.nan, np.nan
    share = max(trial.intermediate_values)
    gains = [
        t.values[0] - t.intermediate_values[share]
        for t in complete
        if share in t.intermediate_values
    ]
    if len(gains) < _LEAST_GAINS:
        return np.nan, np.nan
    return float(trial.intermediate_values[share] + np.mean(gains)), float(np.std(gains, ddof=1))


@dataclass(frozen=True)
class Situation:
    """What is known when a kernel is wanted, in the order of the trials' numbers.

    Attributes:
        study: Optuna's view.
        trial: The one that needs a kernel.
        problem: What is searched; its rules as far as they are known by now.
        complete: Trials with a finite value.
        failed: Feasible kernels whose training failed, ``f x d``: learnt as bad ones.
        given_up: Kernels whose training was killed again and again, ``g x d``: nothing is learnt
            of them, but they are not tried again.
        stopped: Trials that the pruner ended.
        slow: Kernels that were timed, and answer too slowly to be trained, ``l x d``.
        pending: Kernels that are being trained, ``p x d``.
    """

    study: Study
    trial: FrozenTrial
    problem: Problem[Rules]
    complete: tuple[FrozenTrial, ...]
    failed: FloatArray
    given_up: FloatArray
    stopped: Stopped
    slow: FloatArray
    pending: FloatArray

    @classmethod
    def of(cls, study: Study, trial: FrozenTrial, problem: Problem[Rules]) -> "Situation":
        """Reads a study; what ran out of memory tightens the rules.

        A trial without a whole kernel inside the space, which only others write, is not there.

        Args:
            study: The study.
            trial: The one that needs a kernel.
            problem: What is declared.
        """
        space = problem.space
        known = [t for t in study.get_trials(deepcopy=False) if t.number != trial.number]
        others = [t for t in known if space.holds(t.params)]

        def vectors(chosen: Sequence[FrozenTrial]) -> FloatArray:
            return space.vectors([t.params for t in chosen])

        def having(state: TrialState) -> list[FrozenTrial]:
            return [t for t in others if t.state == state]

        complete = [
            t for t in having(TrialState.COMPLETE) if t.values and np.isfinite(t.values).all()
        ]
        failed, pruned = having(TrialState.FAIL), having(TrialState.PRUNED)
        rules = taught(
            problem.rules,
            space,
            [t.params for t in failed if t.user_attrs.get("reason") == Failure.OUT_OF_MEMORY],
            [t.params for t in complete],
            [(t.params, ms) for t in others if (ms := measured_ms(t.user_attrs)) is not None],
        )
        learnt = vectors([t for t in failed if _blames_kernel(t)])
        if len(learnt):
            learnt = learnt[rules.assess(learnt).feasible]
        stopped = [
            t
            for t in pruned
            if t.user_attrs.get("reason", STOPPED_EARLY) == STOPPED_EARLY
            and last_percent(t) is not None
        ]
        pending = [_proposed(t, space) for t in known if t.state == TrialState.RUNNING]
        return cls(
            study,
            trial,
            replace(problem, rules=rules),
            tuple(complete),
            learnt,
            vectors([t for t in failed if _reason(t) is Failure.KILLED]),
            Stopped.of(space, stopped, complete),
            vectors([t for t in pruned if is_too_slow("pruned", t.user_attrs.get("reason"))]),
            space.vectors([kernel for kernel in pending if space.holds(kernel)]),
        )

    @property
    def space(self) -> Space:
        """The ranges."""
        return self.problem.space

    @property
    def rules(self) -> Rules:
        """What is feasible, as far as is known by now."""
        return self.problem.rules

    @cached_property
    def kernels(self) -> FloatArray:
        """Of the complete trials, ``n x d``."""
        return self.space.vectors([t.params for t in self.complete])

    @cached_property
    def values(self) -> FloatArray:
        """Of the complete trials, ``n``: of several objectives the first, the accuracy."""
        return np.array([t.values[0] for t in self.complete], dtype=np.float64)

    @cached_property
    def points(self) -> FloatArray:
        """All objectives of the complete trials, ``n x q``, as ``front.py`` sees them."""
        values = [t.values for t in self.complete]
        return as_points(np.array(values, dtype=np.float64).reshape(len(values), -1))

    @property
    def outcomes(self) -> FloatArray:
        """What a model learns of the complete trials, ``n x q``: values, or points."""
        return self.values[:, None] if len(self.problem.objectives) == 1 else self.points

    @cached_property
    def merits(self) -> FloatArray:
        """By which complete trials are compared, ``n``: values, or how near the front they are."""
        return self.values if len(self.problem.objectives) == 1 else -ranks(self.points)

    @cached_property
    def reference(self) -> FloatArray:
        """Where hypervolumes count from, ``q``: as recorded, else by the opening's trials."""
        noted = self.study.user_attrs.get(REFERENCE)
        if noted is not None:
            values = [noted[name] for name in self.problem.objectives]
            return np.asarray(as_points(np.array([values], dtype=np.float64))[0])
        first = [t.number < self.problem.opening_length for t in self.complete]
        return reference_point(self.points[first] if any(first) else self.points)

    @cached_property
    def known(self) -> set[Hashable]:
        """Identities of the measured, the failed and the pending kernels."""
        ended = (*self.kernels, *self.stopped.kernels, *self.failed, *self.given_up, *self.slow)
        return {self.rules.identity(kernel) for kernel in (*ended, *self.pending)}

    def admits(self, kernel: FloatArray) -> bool:
        """Whether a kernel, ``d``, is feasible and new."""
        feasible = bool(self.rules.assess(kernel[None, :]).feasible[0])
        return feasible and self.rules.identity(kernel) not in self.known

    def nearby(self, kernel: FloatArray) -> FloatArray | None:
        """What is feasible and new nearest to a kernel, ``d``; None if there is nothing."""
        return moved_inside(self.space, self.rules, self.kernels, kernel, self.known)


def _proposed(trial: FrozenTrial, space: Space) -> Mapping[str, Any]:
    """A running trial's kernel; of one that has not asked for all of it, what it would get."""
    if space.holds(trial.params):
        return trial.params
    noted = trial.system_attrs.get(PROPOSED)
    return noted if isinstance(noted, Mapping) else {}


def _blames_kernel(trial: FrozenTrial) -> bool:
    """Whether a failed trial teaches that its kernel is bad.

    A machine's own trouble, such as a process that was killed, teaches nothing; nor does a trial
    that Optuna or its user has failed, which says no reason of ours.
    """
    reason = _reason(trial)
    return reason is not None and reason.blames_kernel


def _reason(trial: FrozenTrial) -> Failure | None:
    """Why a trial has failed, if one of ours says so."""
    reason = trial.user_attrs.get("reason")
    return Failure(reason) if reason in set(Failure) else None
