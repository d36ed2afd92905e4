"""What another study has measured, for one that begins: a guess, and kernels to try first."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Self, TypeVar

import numpy as np

from betanas.arrays import FloatArray
from betanas.search.problem import Problem, Source
from betanas.search.rules import Rules

R = TypeVar("R", bound=Rules)


@dataclass(frozen=True, slots=True)
class WarmStart:
    """What a study has been told when it began; recorded with it.

    Attributes:
        study: Name of the study that told it.
        kernels: What that has measured, as ``parameter -> value``.
        values: Theirs, more is better.
        opening: Some of the kernels, which are tried first.
    """

    study: str
    kernels: tuple[Mapping[str, Any], ...]
    values: tuple[float, ...]
    opening: tuple[Mapping[str, Any], ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Plain data: each kernel a list, in the order of ``names``."""
        names = list(self.kernels[0]) if self.kernels else []
        rows = {
            part: [[kernel[name] for name in names] for kernel in getattr(self, part)]
            for part in ("kernels", "opening")
        }
        return {"study": self.study, "names": names, "values": list(self.values), **rows}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """Rebuilds what ``to_json`` wrote."""
        kernels, opening = (
            tuple(dict(zip(data["names"], row, strict=True)) for row in data[part])
            for part in ("kernels", "opening")
        )
        return cls(data["study"], kernels, tuple(data["values"]), opening)

    def begin(self, problem: Problem[R]) -> Problem[R]:
        """The problem as the study searches it that was told this."""
        space = problem.space
        opening = space.vectors(self.opening)
        return replace(
            problem,
            start=(*problem.start, *map(tuple, opening.tolist())),
            given=len(opening),
            source=Source(space.vectors(self.kernels), np.array(self.values)),
        )


def opening_kernels(problem: Problem[Rules]) -> FloatArray:
    """Kernels of a problem's source that are worth a trial before all others, ``m x d``.

    At most ``problem.most_given``. They lie inside the space, are feasible under the problem's own
    rules and differ in what they are, from one another and from those that the problem starts
    with. Of twice as many best ones, those are taken that lie farthest apart: the best, then again
    and again the one farthest from all that are taken.

    Args:
        problem: With a source; it has taken none of its kernels yet.
    """
    source, space, rules = problem.source, problem.space, problem.rules
    wanted = problem.most_given
    nothing = np.zeros((0, len(space.names)))
    if source is None or not wanted:
        return nothing
    inside = [space.holds(space.kernel(kernel)) for kernel in source.kernels]
    kernels, values = source.kernels[inside], source.values[inside]
    kernels = kernels[np.argsort(-values, kind="stable")]
    kernels = kernels[rules.assess(kernels).feasible] if len(kernels) else nothing
    known = {rules.identity(np.array(k)) for k in problem.start}
    best: list[FloatArray] = []
    for kernel in kernels:
        if len(best) < 2 * wanted and rules.identity(kernel) not in known:
            known.add(rules.identity(kernel))
            best.append(kernel)
    if not best:
        return nothing
    found = np.array(best)
    return np.asarray(found[_apart(space.encode(found), wanted)])


def _apart(points: FloatArray, number: int) -> list[int]:
    """Indices of at most so many of n points, ``n x e``, in the order in which they are taken."""
    chosen = [0]
    gaps = np.linalg.norm(points - points[0], axis=1)
    while len(chosen) < min(number, len(points)):
        chosen.append(int(np.argmax(gaps)))
        gaps = np.minimum(gaps, np.linalg.norm(points - points[chosen[-1]], axis=1))
    return chosen
