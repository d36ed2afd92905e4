"""How sure the order of the best is: trainings repeated with new seeds, and what follows from them.

The value by which the search chose a trial is the luckiest of many, so it counts for nothing here:
only the repetitions do. They are taken as normal around each model's own mean with one noise for
all (one-way analysis of variance); with the standard noninformative prior, p(mean, variance) ~ 1 /
variance, the posterior of a difference of means is Student's t (Gelman et al., "Bayesian Data
Analysis", 3rd ed., 2013, sections 3.2 and 14.2), and so is its 95 % interval.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from scipy.stats import t as student

from betanas.arrays import FloatArray
from betanas.trial import LARGEST, REPEATS, SEED_INDEX, TrialRecord

_DRAWS = 100_000


@dataclass(frozen=True, slots=True)
class Repeated:
    """One model that was trained again.

    Attributes:
        repeats: The search's trial, or ``largest num_params`` for the reference.
        num_params: Trainable weights.
        macs: Multiply-adds of one image.
        searched: What the search measured; None for the reference.
        values: Of the repetitions, by seed.
        trials: Their numbers.
        failed: Repetitions that ended without a value.
        mean: Of the values.
        std: Sample standard deviation of the values; None with fewer than two.
        probability_best: That its mean is the highest of all; None if the noise is not known.
    """

    repeats: int | str
    num_params: int | None
    macs: int | None
    searched: float | None
    values: tuple[float, ...]
    trials: tuple[int, ...]
    failed: int
    mean: float
    std: float | None
    probability_best: float | None

    @property
    def title(self) -> str:
        """As people read it."""
        return f"trial {self.repeats}" if isinstance(self.repeats, int) else self.repeats

    @property
    def is_reference(self) -> bool:
        """Whether it is the largest feasible model, which no search chose."""
        return not isinstance(self.repeats, int)


@dataclass(frozen=True, slots=True)
class Difference:
    """One model's mean over another's.

    Attributes:
        better: The model asked about.
        other: The one it is held against.
        mean: Of the difference.
        low: Lower end of its 95 % interval.
        high: Upper end.
        probability: That it is above 0.
    """

    better: int | str
    other: int | str
    mean: float
    low: float
    high: float
    probability: float


@dataclass(frozen=True, slots=True)
class Confirmed:
    """What the repetitions say.

    Attributes:
        models: By falling mean.
        noise_std: Of one training, pooled over all models; None if none was trained twice.
        degrees: Degrees of freedom behind it.
        differences: Of every ordered pair; empty if the noise is not known.
        against_largest: The search's best against the reference; None without either.
    """

    models: tuple[Repeated, ...]
    noise_std: float | None
    degrees: int
    differences: tuple[Difference, ...]
    against_largest: Difference | None

    def probability(self, better: Repeated, other: Repeated) -> float | None:
        """That one model's mean is above another's."""
        for d in self.differences:
            if (d.better, d.other) == (better.repeats, other.repeats):
                return d.probability
        return None

    def to_json(self) -> dict[str, Any]:
        """The JSON of ``betanas confirm``."""
        return {
            "models": [
                {**asdict(m), "values": list(m.values), "trials": list(m.trials)}
                for m in self.models
            ],
            "noise_std": self.noise_std,
            "degrees_of_freedom": self.degrees,
            "pairwise": [asdict(d) for d in self.differences],
            "against_largest": asdict(self.against_largest) if self.against_largest else None,
        }


def confirmed(records: Sequence[TrialRecord]) -> Confirmed | None:
    """Reads the repetitions among a study's trials; None if there are none with a value."""
    groups: dict[int | str, dict[int, TrialRecord]] = {}
    for r in records:
        if r.is_replicate and r.state in ("complete", "fail"):
            groups.setdefault(r.audit[REPEATS], {}).setdefault(r.audit[SEED_INDEX], r)
    values = {
        of: np.array([r.value for _, r in sorted(own.items()) if r.value is not None])
        for of, own in groups.items()
    }
    known = sorted((of for of in groups if len(values[of])), key=lambda of: -values[of].mean())
    if not known:
        return None
    sets = [values[of] for of in known]
    noise, degrees = _pooled(sets)
    shares = _probabilities_best(sets, noise, degrees)
    searched = {r.number: r.value for r in records}
    models = tuple(
        _repeated(of, groups[of], searched, share) for of, share in zip(known, shares, strict=True)
    )
    differences = () if noise is None else _differences(models, noise, degrees)
    return Confirmed(models, noise, degrees, differences, _against_largest(models, differences))


def _repeated(
    of: int | str,
    own: dict[int, TrialRecord],
    searched: dict[int, float | None],
    share: float | None,
) -> Repeated:
    trained = [r for _, r in sorted(own.items()) if r.value is not None]
    values = np.array([r.value for r in trained], dtype=np.float64)
    return Repeated(
        repeats=of,
        num_params=trained[0].num_params,
        macs=trained[0].macs,
        searched=searched.get(of) if isinstance(of, int) else None,
        values=tuple(map(float, values)),
        trials=tuple(r.number for r in trained),
        failed=len(own) - len(trained),
        mean=float(values.mean()),
        std=float(values.std(ddof=1)) if len(values) > 1 else None,
        probability_best=share,
    )


def _pooled(sets: Sequence[FloatArray]) -> tuple[float | None, int]:
    """The noise of one training over all models, and its degrees of freedom."""
    degrees = sum(len(values) - 1 for values in sets)
    if degrees == 0:
        return None, 0
    squares = sum(float(np.sum((values - values.mean()) ** 2)) for values in sets)
    # Values that are all equal tell of a coarse measure, not of no noise.
    return max(float(np.sqrt(squares / degrees)), 1e-9), degrees


def _probabilities_best(
    sets: Sequence[FloatArray], noise: float | None, degrees: int
) -> list[float | None]:
    """How often each mean is the highest, over draws from the posterior of all."""
    if noise is None:
        return [None] * len(sets)
    rng = np.random.default_rng(0)  # the same trials, the same answer
    std = noise * np.sqrt(degrees / rng.chisquare(degrees, size=_DRAWS))
    means = np.array([values.mean() for values in sets])
    share = np.array([len(values) for values in sets]) ** -0.5
    drawn = means + std[:, None] * share * rng.standard_normal((_DRAWS, len(sets)))
    wins = np.bincount(drawn.argmax(axis=1), minlength=len(sets))
    return [round(float(n) / _DRAWS, 4) for n in wins]


def _differences(models: Sequence[Repeated], noise: float, degrees: int) -> tuple[Difference, ...]:
    reach = float(student.ppf(0.975, degrees))
    found = []
    for a in models:
        for b in models:
            if a is b:
                continue
            mean = a.mean - b.mean
            error = noise * (1 / len(a.values) + 1 / len(b.values)) ** 0.5
            probability = round(float(student.cdf(mean / error, degrees)), 4)
            low, high = mean - reach * error, mean + reach * error
            found.append(Difference(a.repeats, b.repeats, mean, low, high, probability))
    return tuple(found)


def _against_largest(
    models: Sequence[Repeated], differences: Sequence[Difference]
) -> Difference | None:
    own = [m for m in models if m.searched is not None]
    largest = [m.repeats for m in models if str(m.repeats).startswith(LARGEST)]
    if not own or not largest:
        return None
    best = max(own, key=lambda m: m.searched or 0.0).repeats
    pairs = (d for d in differences if (d.better, d.other) == (best, largest[0]))
    return next(pairs, None)
