"""What a study's trials have taught of memory and latency, for everybody who asks the rules."""

from collections.abc import Hashable, Mapping, Sequence
from typing import Any, TypeVar

import numpy as np

from betanas.architecture.limits import Rejection
from betanas.search.problem import Problem
from betanas.search.rules import Rules
from betanas.search.space import Space
from betanas.trial import STOPPED_EARLY, Failure, TrialRecord

R = TypeVar("R", bound=Rules)
Kernels = Sequence[Mapping[str, Any]]


def taught(
    rules: R,
    space: Space,
    out_of_memory: Kernels,
    complete: Kernels,
    answered: Sequence[tuple[Mapping[str, Any], float]],
) -> R:
    """Rules that know what the device has shown.

    Args:
        rules: As they were declared.
        space: What the kernels are of.
        out_of_memory: Kernels whose training ran out of it.
        complete: Kernels whose training did not.
        answered: Kernels with their measured latencies, in milliseconds.
    """
    tightened = rules.tightened(space.vectors(out_of_memory), space.vectors(complete))
    kernels = space.vectors([kernel for kernel, _ in answered])
    return tightened.timed(kernels, np.array([ms for _, ms in answered]))


def learnt_rules(problem: Problem[R], records: Sequence[TrialRecord]) -> R:
    """A study's rules as its trials have taught them.

    Args:
        problem: What is searched.
        records: Its trials; those without a whole kernel inside the space teach nothing.
    """
    own = [r for r in records if problem.space.holds(r.parameters)]
    return taught(
        problem.rules,
        problem.space,
        [r.parameters for r in own if r.state == "fail" and r.reason == Failure.OUT_OF_MEMORY],
        [r.parameters for r in own if r.state == "complete"],
        [(r.parameters, ms) for r in own if (ms := r.latency_ms) is not None],
    )


def is_too_slow(state: str, reason: object) -> bool:
    """Whether a trial was measured, found slower than ``limits.latency_ms``, and not trained."""
    return state == "pruned" and reason == Rejection.LATENCY


def discouraged(problem: Problem[R], records: Sequence[TrialRecord]) -> set[Hashable]:
    """Identities of kernels that were trained or timed to no good end, and never to a good one.

    A pruner has ended them, their training failed by their own fault, or they answer too slowly.
    """
    good: set[Hashable] = set()
    bad: set[Hashable] = set()
    for record in records:
        if not problem.space.holds(record.parameters):
            continue
        failed = record.state == "fail" and record.reason in set(Failure)
        if record.state == "complete":
            chosen = good
        elif (
            record.reason == STOPPED_EARLY
            or is_too_slow(record.state, record.reason)
            or (failed and Failure(str(record.reason)).blames_kernel)
        ):
            chosen = bad
        else:
            continue
        chosen.add(problem.rules.identity(problem.space.vector(record.parameters)))
    return bad - good
