"""Ranges that hold a search back: where the best kernels press against an end of what is searched.

Of the complete trials the best quarter is looked at, but no fewer than ten. They press against an
end where at least a third of them lie within 5 % of it, on the scale that is searched (of a whole
number: have the value of the end), and where that is no chance: a binomial test against the share
of all feasible kernels that lie there, by Bonferroni at the level of 1 % for all ends that are
tested. The feasible share, not 5 %, since the limits often leave little but one end of a range.

Trials that a model proposed are not independent, as the test takes them to be: hence the third.
Not tested are choices, fixed parameters, and ends that are those of the parameter's domain.
"""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
from scipy.stats import binom

from betanas.analysis.clusters import complete_trials, kernel_matrix
from betanas.arrays import BoolArray, FloatArray
from betanas.parameters import Integer, Parameter, Real
from betanas.search.problem import Problem
from betanas.search.rules import Rules
from betanas.search.space import Space
from betanas.trial import TrialRecord

MIN_TRIALS = 20  # complete ones
_LEAST_BEST = 10
_NEAR = 0.05  # of the range
_LEAST_SHARE = 1 / 3  # of the best
_LEVEL = 0.01
_PROBE = 1024  # kernels that tell where the feasible ones lie
_GROWTH = 0.5  # of the range, on the scale that is searched

End = Literal["low", "high"]
_ENDS: tuple[End, ...] = ("low", "high")


@dataclass(frozen=True, slots=True)
class RangeAdvice:
    """One end of a range that the best kernels press against.

    Attributes:
        parameter: Its name.
        end: Which end.
        pressing: How many of the best trials lie there.
        best: Of how many.
        feasible_share: Of all feasible kernels, how many lie there, [0, 1].
        p_value: Of so many by chance, for this end alone.
        range: What is searched.
        wider: What should be: half again as wide at that end, inside the domain.
    """

    parameter: str
    end: End
    pressing: int
    best: int
    feasible_share: float
    p_value: float
    range: tuple[float, float]
    wider: tuple[float, float]

    def to_json(self) -> dict[str, Any]:
        """An entry of ``range_advice`` in the JSON of every command that has it."""
        return {**asdict(self), "range": list(self.range), "wider": list(self.wider)}

    def __str__(self) -> str:
        """One line for people."""
        at = self.range[0] if self.end == "low" else self.range[1]
        return (
            f"{self.parameter} presses against {at:g}, the {self.end} end of its range: "
            f"{self.pressing} of the best {self.best} trials lie there, "
            f"but {100 * self.feasible_share:.0f} % of all feasible kernels; "
            f"[{self.wider[0]:g}, {self.wider[1]:g}] is wider"
        )


def advise_ranges(problem: Problem[Rules], records: Sequence[TrialRecord]) -> list[RangeAdvice]:
    """Finds the ends that the best trials press against; the module says by which rule.

    Args:
        problem: What was searched.
        records: All trials of the study.

    Returns:
        In the parameters' order; empty if nothing presses, or fewer than ``MIN_TRIALS`` trials
        with a whole kernel are complete.
    """
    space = problem.space
    complete = [r for r in complete_trials(records) if space.holds(r.parameters)]
    ends = [
        (i, end, wider)
        for i in space.free
        for end in _ENDS
        if (wider := _wider(space.parameters[i], end)) is not None
    ]
    if len(complete) < MIN_TRIALS or not ends:
        return []
    feasible = problem.feasible_kernels(_PROBE)
    best = complete[: max(_LEAST_BEST, -(-len(complete) // 4))]
    kernels = kernel_matrix(best, space.parameters)
    found = []
    for i, end, wider in ends:
        pressing = int(_near(space, kernels, i, end).sum())
        # Counted with one more kernel, so that no share is 0.
        share = (int(_near(space, feasible, i, end).sum()) + 1) / (len(feasible) + 1)
        p_value = float(binom.sf(pressing - 1, len(best), share))
        if pressing >= _LEAST_SHARE * len(best) and p_value * len(ends) < _LEVEL:
            name, searched = space.names[i], space.parameters[i].range
            found.append(
                RangeAdvice(name, end, pressing, len(best), share, p_value, searched, wider)
            )
    return found


def wider_ranges(advice: Sequence[RangeAdvice]) -> dict[str, tuple[float, float]]:
    """The range of each parameter that is advised to be wider, at one end or at both."""
    found: dict[str, tuple[float, float]] = {}
    for a in advice:
        low, high = found.get(a.parameter, a.wider)
        found[a.parameter] = (min(low, a.wider[0]), max(high, a.wider[1]))
    return found


def _near(space: Space, kernels: FloatArray, i: int, end: End) -> BoolArray:
    """Which of n kernels, ``n x d``, lie at an end of a parameter."""
    if i in space.discrete:
        return np.asarray(kernels[:, i] == (space.low if end == "low" else space.high)[i])
    unit = space.unit(kernels)[:, i]
    return unit <= _NEAR if end == "low" else unit >= 1 - _NEAR


def _wider(parameter: Parameter, end: End) -> tuple[float, float] | None:
    """A wider range; None where there is none."""
    if not isinstance(parameter, Real):  # a choice
        return None
    (low, high), (least, most) = parameter.range, parameter.widest
    if (low <= least) if end == "low" else (high >= most):
        return None
    if parameter.log:
        factor = (high / low) ** _GROWTH
        ends = (low / factor, high * factor)
    else:
        ends = (low - _GROWTH * (high - low), high + _GROWTH * (high - low))
    old, new = (low, ends[0]) if end == "low" else (high, ends[1])
    if isinstance(parameter, Integer):
        new = min(math.floor(new), old - 1) if end == "low" else max(math.ceil(new), old + 1)
    else:  # two digits of what is added say enough, on a log scale two of the end too
        scale = min(abs(new - old), abs(new)) if parameter.log else abs(new - old)
        new = round(new, 1 - math.floor(math.log10(scale)))
    return (max(new, least), high) if end == "low" else (low, min(new, most))
