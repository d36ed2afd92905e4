"""How far to believe a model: what it says of values that it has not seen."""

from dataclasses import dataclass

import numpy as np
from scipy.stats import spearmanr

from betanas.arrays import FloatArray, IntArray

_TRUST = 4  # values, so many errors of just the size that the model said are added to the real ones


def widening(errors: FloatArray, stds: FloatArray) -> float:
    """The factor that makes deviations as large as the errors were, root mean square.

    A Gaussian process fitted by maximising holds its hyperparameters, the noise among them, for
    certain; so its intervals are too narrow, the more so the fewer values it has learnt from.

    Args:
        errors: Of predictions of values that the model had not seen, ``n``.
        stds: What the model said of them, ``n``.
    """
    squares = np.sum((errors / stds) ** 2)
    return float(np.sqrt((_TRUST + squares) / (_TRUST + len(errors))))


def widened(errors: FloatArray, stds: FloatArray, folds: IntArray) -> FloatArray:
    """Deviations times the ``widening`` that the errors of all other folds ask for, ``n``.

    So no value's interval knows of the value: the share of values inside is an honest one.

    Args:
        errors: As for ``widening``.
        stds: As for ``widening``.
        folds: Of each value, ``n``; values of one fold were predicted by one model.
    """
    found = np.empty_like(stds)
    for fold in np.unique(folds):
        out = folds == fold
        found[out] = stds[out] * widening(errors[~out], stds[~out])
    return found


@dataclass(frozen=True, slots=True, eq=False)
class ModelQuality:
    """Predictions of values by models that were fitted without them, and how good they are.

    Attributes:
        measured: The values, ``n``.
        predicted: Means of a new training, ``n``.
        std: Standard deviations of a new training, its noise included, ``n``; ``widened``.
        noise_std: What the model of all values holds for the noise of one training.
        widening: The factor by which deviations of other kernels are to be widened.
    """

    measured: FloatArray
    predicted: FloatArray
    std: FloatArray
    noise_std: float
    widening: float = 1.0

    @property
    def r2(self) -> float | None:
        """Share of the variance explained; 0 is as good as the mean, below 0 worse.

        None if all values are equal.
        """
        if not np.ptp(self.measured):
            return None
        return 1 - float(np.mean(self._error**2) / np.var(self.measured))

    @property
    def rmse(self) -> float:
        """Root mean squared error."""
        return float(np.sqrt(np.mean(self._error**2)))

    @property
    def spearman(self) -> float | None:
        """Rank correlation: 1 is perfect, 0 worthless; None if values or predictions are equal."""
        if not np.ptp(self.measured) or not np.ptp(self.predicted):
            return None
        return float(spearmanr(self.measured, self.predicted).statistic)

    @property
    def coverage(self) -> float:
        """Share of the values inside the 95 % intervals."""
        return float(np.mean(np.abs(self._error) <= 1.96 * self.std))

    @property
    def _error(self) -> FloatArray:
        return self.measured - self.predicted
