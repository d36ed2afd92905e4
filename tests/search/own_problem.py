"""A problem that has nothing to do with networks: real and whole numbers, and choices."""

from collections.abc import Hashable
from typing import Any

import numpy as np

from betanas.arrays import FloatArray
from betanas.parameters import Choice, Integer, Real
from betanas.search.problem import Problem
from betanas.search.rules import Assessment, Rules
from betanas.search.space import Space

SPACE = Space(
    (
        Real("rate", 1e-4, 1.0, log=True),
        Integer("layers", 1, 9),
        Integer("width", 1, 512, log=True),
        Choice(
            "kind", ("plain", "residual", "inverted"), ("plain", "other", "residual", "inverted")
        ),
        Choice("fixed", ("b",), ("a", "b")),
        Integer("always", 3, 3, (1, 9)),
    )
)


class Budgeted(Rules):
    """At most so many layers times width; only the latter's logarithm is known beside a kernel."""

    def assess(self, kernels: FloatArray) -> Assessment:
        size = kernels[:, 1] * kernels[:, 2]
        return Assessment(size <= 400, np.log(size)[:, None])

    def identity(self, kernel: FloatArray) -> Hashable:
        return kernel.tobytes()


def make_problem(seed: int = 0) -> Problem[Budgeted]:
    return Problem(SPACE, Budgeted(), seed, 12, 6)


def value(kernel: dict[str, Any]) -> float:
    """Best, 1, at rate 0.01, 6 layers of width 60, inverted."""
    off = (np.log10(kernel["rate"]) + 2) ** 2 / 4 + (kernel["layers"] - 6) ** 2 / 20
    off += np.log(kernel["width"] / 60) ** 2 / 4
    return float(np.exp(-off) - {"plain": 0.3, "residual": 0.1, "inverted": 0}[kernel["kind"]])
