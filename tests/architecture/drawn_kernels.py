"""Kernels for tests: hypothesis strategies, and arrays of evenly drawn ones."""

import numpy as np
from hypothesis import strategies as st
from numpy.typing import NDArray

from betanas.architecture.family import Family

RESOLUTIONS = st.integers(16, 1024)
FAMILY_NAMES = ("betanet2", "betanet3")  # which share the published rules


@st.composite
def kernels(draw: st.DrawFn, family: Family, *, widest: bool = False) -> dict[str, float]:
    """A kernel inside the family's ranges, or inside its domain, ends included."""
    bounds = family.domain if widest else family.ranges
    return {
        name: draw(st.floats(low, high, allow_nan=False)) for name, (low, high) in bounds.items()
    }


def random_kernels(family: Family, number: int, seed: int, **fixed: float) -> NDArray[np.float64]:
    """``number x d`` kernels drawn evenly from the ranges; ``fixed`` holds parameters still."""
    low, high = np.array(list(family.ranges.values())).T
    x = np.random.default_rng(seed).uniform(low, high, (number, len(low)))
    for name, value in fixed.items():
        x[:, family.names.index(name)] = value
    return x
