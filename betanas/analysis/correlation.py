"""How well one figure ranks networks by another one, and how sure that is."""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from betanas.arrays import FloatArray

RESAMPLES = 1000
MIN_PAIRS = 4


@dataclass(frozen=True, slots=True)
class RankCorrelation:
    """Rank correlations of n pairs.

    Attributes:
        spearman: Spearman's rho, in [-1, 1].
        kendall: Kendall's tau-b, in [-1, 1].
        low: Lower end of the 95 % bootstrap interval of ``spearman``.
        high: Its upper end.
        kendall_low: As ``low``, of ``kendall``.
        kendall_high: As ``high``, of ``kendall``.
    """

    spearman: float
    kendall: float
    low: float
    high: float
    kendall_low: float
    kendall_high: float


def rank_correlation(
    scores: Sequence[float], values: Sequence[float], seed: int = 0
) -> RankCorrelation | None:
    """Correlates ranks; the intervals are percentiles over resampled pairs (Efron, 1979).

    Args:
        scores: ``n``; infinities rank first and last.
        values: ``n``.
        seed: Of the resampling.

    Returns:
        None below 4 pairs, or where all scores or all values are equal.
    """
    x, y = (np.asarray(stats.rankdata(v), dtype=np.float64) for v in (scores, values))
    if len(x) < MIN_PAIRS or np.ptp(x) == 0 or np.ptp(y) == 0:
        return None
    rng = np.random.default_rng(seed)
    drawn = rng.integers(0, len(x), (RESAMPLES, len(x)))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", stats.ConstantInputWarning)
        resampled = np.array([_both(x[i], y[i]) for i in drawn])
    (low, kendall_low), (high, kendall_high) = np.nanpercentile(resampled, (2.5, 97.5), axis=0)
    return RankCorrelation(
        *_both(x, y), float(low), float(high), float(kendall_low), float(kendall_high)
    )


def _both(x: FloatArray, y: FloatArray) -> tuple[float, float]:
    """Spearman's and Kendall's coefficients; NaN where all are equal."""
    return float(stats.spearmanr(x, y).statistic), float(stats.kendalltau(x, y).statistic)
