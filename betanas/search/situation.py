"""A database's content as the strategies see it."""

from collections.abc import Hashable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from optuna import Study
from optuna.trial import FrozenTrial, TrialState

from betanas.arrays import FloatArray
from betanas.search.rules import ArchitectureRules, Rules
from betanas.search.space import Space
from betanas.trial import STOPPED_EARLY, Failure


@dataclass(frozen=True)
class Situation:
    """What is known when a kernel is wanted, in the order of the trials' numbers.

    Attributes:
        study: Optuna's view.
        trial: The one that needs a kernel.
        space: The ranges.
        rules: What is feasible, as far as is known by now.
        complete: Trials with a value.
        failed: Feasible kernels whose training failed, ``f x d``: learnt as bad ones.
        stopped: Trials that the pruner ended: learnt with what they had reached, which they would
            hardly have left behind.
        pending: Kernels that are being trained, ``p x d``.
    """

    study: Study
    trial: FrozenTrial
    space: Space
    rules: Rules
    complete: tuple[FrozenTrial, ...]
    failed: FloatArray
    stopped: tuple[FrozenTrial, ...]
    pending: FloatArray

    @classmethod
    def of(cls, study: Study, trial: FrozenTrial, space: Space, rules: Rules) -> "Situation":
        """Reads a study; what ran out of memory tightens the rules.

        Args:
            study: The study.
            trial: The one that needs a kernel.
            space: The ranges.
            rules: What is declared.
        """
        others = [
            other
            for other in study.get_trials(deepcopy=False)
            if other.number != trial.number and set(other.params) >= set(space.names)
        ]
        complete = [t for t in others if t.state == TrialState.COMPLETE]
        failed = [t for t in others if t.state == TrialState.FAIL]
        memory = [t for t in failed if t.user_attrs.get("reason") == Failure.OUT_OF_MEMORY]
        if isinstance(rules, ArchitectureRules):
            rules = rules.tightened(
                space.vectors([t.params for t in memory]),
                space.vectors([t.params for t in complete]),
            )
        # A machine's own trouble, such as a process that was killed, teaches nothing of a kernel.
        blamed = [t for t in failed if Failure(t.user_attrs["reason"]).blames_kernel]
        learnt = space.vectors([t.params for t in blamed])
        if len(learnt):
            learnt = learnt[rules.assess(learnt).feasible]
        running = [t for t in others if t.state == TrialState.RUNNING]
        pending = space.vectors([t.params for t in running])
        stopped = [
            t
            for t in others
            if t.user_attrs.get("reason") == STOPPED_EARLY and t.intermediate_values
        ]
        return cls(study, trial, space, rules, tuple(complete), learnt, tuple(stopped), pending)

    @cached_property
    def kernels(self) -> FloatArray:
        """Of the complete trials, ``n x d``."""
        return self.space.vectors([t.params for t in self.complete])

    @cached_property
    def known(self) -> set[Hashable]:
        """Identities of the measured and the pending kernels."""
        known = (*self.kernels, *self.stopped_kernels, *self.pending)
        return {self.rules.identity(kernel) for kernel in known}

    @cached_property
    def stopped_kernels(self) -> FloatArray:
        """Of the stopped trials, ``s x d``."""
        return self.space.vectors([t.params for t in self.stopped])

    @cached_property
    def stopped_values(self) -> FloatArray:
        """The best accuracies that the stopped trials had reached, ``s``."""
        reached = [max(t.intermediate_values.values()) for t in self.stopped]
        return np.array(reached, dtype=np.float64)

    @cached_property
    def values(self) -> FloatArray:
        """Of the complete trials, ``n``."""
        return np.array([t.value for t in self.complete], dtype=np.float64)
