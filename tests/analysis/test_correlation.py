"""Rank correlations and how sure they are."""

import math

import numpy as np
import pytest

from betanas.analysis.correlation import rank_correlation


def test_ranks_alone_decide() -> None:
    values = [0.1, 0.2, 0.3, 0.4, 0.9]
    found = rank_correlation([math.exp(50 * v) for v in values], values)
    assert found is not None
    assert (found.spearman, found.kendall) == pytest.approx((1.0, 1.0))
    assert (found.low, found.high) == pytest.approx((1.0, 1.0))
    opposite = rank_correlation([-math.inf if v > 0.5 else -v for v in values], values)
    assert opposite is not None
    assert opposite.spearman == pytest.approx(-1.0)


def test_coefficients_of_ties() -> None:
    found = rank_correlation([1, 2, 2, 3], [1, 2, 3, 4])
    assert found is not None
    # Ranks 1, 2.5, 2.5, 4; of six pairs five agree and one is a tie of the scores.
    assert found.spearman == pytest.approx(math.sqrt(0.9))
    assert found.kendall == pytest.approx(5 / math.sqrt(5 * 6))


def test_the_interval_holds_the_truth_and_shrinks() -> None:
    rng = np.random.default_rng(0)
    widths = []
    for number in (50, 500):
        x = rng.normal(size=number)
        y = 0.6 * x + 0.8 * rng.normal(size=number)
        found = rank_correlation(x, y)
        assert found is not None
        assert found.low < found.spearman < found.high
        assert found.kendall_low < found.kendall < found.kendall_high
        # Of normal pairs: 6 / pi * asin(0.6 / 2).
        assert found.low < 6 / math.pi * math.asin(0.3) < found.high
        widths.append(found.high - found.low)
    assert widths[1] < widths[0] / 2


def test_too_little_to_correlate() -> None:
    assert rank_correlation([1, 2, 3], [1, 2, 3]) is None
    assert rank_correlation([1, 1, 1, 1], [1, 2, 3, 4]) is None
    assert rank_correlation([1, 2, 3, 4], [5, 5, 5, 5]) is None
