"""How far a study can be believed: rejections, replicates, and the model's own test."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from betanas.arrays import FloatArray
from betanas.trial import TrialRecord

Predict = Callable[[FloatArray], tuple[FloatArray, FloatArray]]
"""From kernels, ``n x d``, to the mean and standard deviation of their accuracy, ``n`` each."""


def history_of(record: TrialRecord) -> list[Mapping[str, Any]]:
    """The evaluations of one training, in order; empty if none was recorded."""
    return list(record.audit.get("history") or ())


def outcomes_by_phase(records: Sequence[TrialRecord]) -> dict[str, dict[str, int]]:
    """``phase -> {outcome: count}``; the outcome of a rejected or failed trial is its reason."""
    phases: dict[str, Counter[str]] = {}
    for record in records:
        outcome = record.reason if record.state in ("pruned", "fail") else record.state
        phases.setdefault(record.phase or "not begun", Counter())[str(outcome)] += 1
    return {phase: dict(counts.most_common()) for phase, counts in phases.items()}


@dataclass(frozen=True, slots=True)
class Replicates:
    """Architectures that were trained more than once; they differ by the training's noise alone.

    Attributes:
        groups: ``fingerprint -> trial numbers`` of each.
        noise_std: Pooled standard deviation of their values; None without a replicate.
        degrees: Degrees of freedom behind it: trainings less architectures.
    """

    groups: dict[str, tuple[int, ...]]
    noise_std: float | None
    degrees: int


def find_replicates(records: Sequence[TrialRecord]) -> Replicates:
    """Finds equal architectures among the complete trials: different kernels may decode to one."""
    values: dict[str, list[tuple[int, float]]] = {}
    for r in records:
        if r.state == "complete" and r.value is not None and r.fingerprint is not None:
            # Under another recipe it is another experiment.
            recipe = [r.parameters[n] for n in sorted(r.parameters) if n not in r.kernel]
            same = " ".join([r.fingerprint, *(f"{value:g}" for value in recipe)])
            values.setdefault(same, []).append((r.number, r.value))
    repeated = {key: group for key, group in values.items() if len(group) > 1}
    squares, degrees = 0.0, 0
    for group in repeated.values():
        measured = np.array([v for _, v in group])
        squares += float(np.sum((measured - measured.mean()) ** 2))
        degrees += len(group) - 1
    return Replicates(
        {key: tuple(n for n, _ in group) for key, group in repeated.items()},
        float(np.sqrt(squares / degrees)) if degrees else None,
        degrees,
    )


@dataclass(frozen=True, slots=True)
class ModelQuality:
    """What the Gaussian process says of each trial when it must not look at that trial.

    Attributes:
        predicted: Leave-one-out means, ``n``.
        std: Standard deviations of a new training there, ``n``.
        measured: The values, ``n``.
        noise_std: What the model holds for the noise of one training.
        r2: Share of the variance explained; 0 is as good as the mean, below 0 worse.
        rmse: Root mean squared error.
        spearman: Rank correlation.
        coverage: Share of the values inside the 95 % intervals.
    """

    predicted: FloatArray
    std: FloatArray
    measured: FloatArray
    noise_std: float
    r2: float
    rmse: float
    spearman: float
    coverage: float


def leave_one_out(
    mean: FloatArray, std: FloatArray, measured: FloatArray, noise_std: float
) -> ModelQuality | None:
    """Takes each trial out of a Gaussian process in turn, without fitting it again.

    With Gaussian noise the posterior without trial i is the posterior at i divided by the
    likelihood of its value: precisions subtract (Rasmussen and Williams, 2006, eq. 5.12 in the form
    of eq. 3.56). Length scales and noise stay those of the whole data.

    Args:
        mean: Posterior means at the measured kernels, ``n``.
        std: Posterior standard deviations of the noise-free value, ``n``.
        measured: The values, ``n``.
        noise_std: The model's noise of one training, > 0.

    Returns:
        None with fewer than three trials, or values that are all the same.
    """
    if len(measured) < 3 or np.ptp(measured) == 0 or noise_std <= 0:
        return None
    noise = noise_std**2
    precision = 1 / np.maximum(std, 1e-12) ** 2
    # Where the trial alone tells the model what it knows, nothing but rounding is left.
    cavity = np.maximum(precision - 1 / noise, 1e-9 * precision)
    predicted = (mean * precision - measured / noise) / cavity
    spread = np.sqrt(1 / cavity + noise)
    return model_quality(predicted, spread, measured, noise_std)


def model_quality(
    predicted: FloatArray, std: FloatArray, measured: FloatArray, noise_std: float
) -> ModelQuality:
    """Scores leave-one-out predictions, however they were made; shapes ``n``."""
    error = measured - predicted
    variance = float(np.var(measured)) or 1.0
    ranks = [np.argsort(np.argsort(x, kind="stable"), kind="stable") for x in (predicted, measured)]
    spearman = float(np.corrcoef(ranks[0], ranks[1])[0, 1]) if len(measured) > 1 else 0.0
    return ModelQuality(
        predicted,
        std,
        measured,
        noise_std,
        r2=1 - float(np.mean(error**2)) / variance,
        rmse=float(np.sqrt(np.mean(error**2))),
        spearman=spearman,
        coverage=float(np.mean(np.abs(error) <= 1.96 * std)),
    )
