"""How far to believe a model: what it says of values that it has not seen."""

from dataclasses import dataclass

import numpy as np
from scipy.stats import spearmanr

from betanas.arrays import FloatArray


@dataclass(frozen=True, slots=True, eq=False)
class ModelQuality:
    """Predictions of values by models that were fitted without them, and how good they are.

    Attributes:
        measured: The values, ``n``.
        predicted: Means of a new training, ``n``.
        std: Standard deviations of a new training, its noise included, ``n``.
        noise_std: What the model of all values holds for the noise of one training.
    """

    measured: FloatArray
    predicted: FloatArray
    std: FloatArray
    noise_std: float

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
