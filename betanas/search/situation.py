"""A database's content as the strategies see it."""

from collections.abc import Hashable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from optuna import Study
from optuna.trial import FrozenTrial, TrialState

from betanas.architecture.beta import FloatArray
from betanas.search.rules import ArchitectureRules, Rules
from betanas.search.space import Space
from betanas.trial import Failure


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
        pending: Kernels that are being trained, ``p x d``.
    """

    study: Study
    trial: FrozenTrial
    space: Space
    rules: Rules
    complete: tuple[FrozenTrial, ...]
    failed: FloatArray
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
        return cls(study, trial, space, rules, tuple(complete), learnt, pending)

    @cached_property
    def kernels(self) -> FloatArray:
        """Of the complete trials, ``n x d``."""
        return self.space.vectors([t.params for t in self.complete])

    @cached_property
    def known(self) -> set[Hashable]:
        """Identities of the measured and the pending kernels."""
        return {self.rules.identity(kernel) for kernel in (*self.kernels, *self.pending)}

    @cached_property
    def values(self) -> FloatArray:
        """Of the complete trials, ``n``."""
        return np.array([t.value for t in self.complete], dtype=np.float64)
