"""Repeated trainings: the answers are the textbook's, and the search's luck counts for nothing."""

import numpy as np
import pytest
from scipy.stats import ttest_ind

from betanas.analysis.clusters import complete_trials
from betanas.analysis.confirmation import confirmed
from betanas.analysis.evidence import find_replicates
from betanas.analysis.status import observed_best, summarize
from betanas.trial import TrialRecord


def searched(number: int, value: float) -> TrialRecord:
    return TrialRecord(number, "complete", "gp", value, fingerprint=f"f{number}")


def repeat(number: int, of: int | str, seed: int, value: float | None) -> TrialRecord:
    state = "fail" if value is None else "complete"
    audit = {"repeats": of, "seed_index": seed}
    return TrialRecord(number, state, "confirm", value, fingerprint=f"f{of}", audit=audit)


def study(**repeated: list[float | None]) -> list[TrialRecord]:
    """Trials 0, 1, ... of falling value, and their repetitions: ``t0=[...]``, ``largest=[...]``."""
    records = [searched(i, 0.9 - i / 100) for i in range(3)]
    for name, values in repeated.items():
        of = int(name[1:]) if name[0] == "t" else "largest num_params"
        records += [repeat(len(records) + i, of, i, v) for i, v in enumerate(values)]
    return records


def test_two_models_are_compared_as_in_the_textbook() -> None:
    a, b = [0.71, 0.74, 0.72], [0.70, 0.69, 0.73]
    found = confirmed(study(t0=a, t1=b))
    t = ttest_ind(a, b)
    (better, worse) = found.models
    assert (better.repeats, worse.repeats) == (0, 1)
    assert found.degrees == 4
    # With the noninformative prior the posterior's tail is the one-sided p-value.
    assert found.probability(better, worse) == pytest.approx(1 - t.pvalue / 2, abs=1e-4)
    assert found.probability(worse, better) == pytest.approx(t.pvalue / 2, abs=1e-4)
    interval = t.confidence_interval(0.95)
    assert found.differences[0].low == pytest.approx(interval.low)
    assert found.differences[0].high == pytest.approx(interval.high)
    # Of two models, the one that beats the other is the best.
    assert better.probability_best == pytest.approx(1 - t.pvalue / 2, abs=0.005)
    assert found.noise_std == pytest.approx(np.sqrt((np.var(a, ddof=1) + np.var(b, ddof=1)) / 2))


def test_probabilities_of_being_best_sum_to_one_and_follow_the_means() -> None:
    found = confirmed(study(t0=[0.70, 0.72], t1=[0.75, 0.73], t2=[0.74, 0.74], largest=[0.6, 0.62]))
    shares = [m.probability_best for m in found.models]
    assert [m.repeats for m in found.models] == [1, 2, 0, "largest num_params"]
    assert sum(shares) == pytest.approx(1, abs=1e-3)
    assert shares == sorted(shares, reverse=True)
    assert found == confirmed(
        study(t0=[0.70, 0.72], t1=[0.75, 0.73], t2=[0.74, 0.74], largest=[0.6, 0.62])
    )


def test_the_searchs_best_is_held_against_the_largest() -> None:
    found = confirmed(study(t0=[0.70, 0.72], t1=[0.75, 0.73], largest=[0.6, 0.62]))
    d = found.against_largest
    assert (d.better, d.other) == (0, "largest num_params")
    assert d.mean == pytest.approx(0.1)
    assert 0.95 < d.probability < 1
    assert confirmed(study(t0=[0.7, 0.72])).against_largest is None


def test_failed_and_single_repetitions_are_told_and_claim_nothing() -> None:
    found = confirmed(study(t0=[0.7, None], t1=[0.72]))
    assert found.noise_std is None
    assert found.differences == ()
    assert [m.failed for m in found.models] == [0, 1]
    assert all(m.probability_best is None for m in found.models)
    assert confirmed(study(t0=[None])) is None
    assert confirmed(study()) is None


def test_repetitions_are_no_trials_of_the_search() -> None:
    records = study(t1=[0.99, 0.98])
    assert observed_best(records).number == 0
    assert [r.number for r in complete_trials(records)] == [0, 1, 2]
    told = summarize("s", records, 3)
    assert (told["feasible"], told["replicates"], told["trials"]["complete"]) == (3, 2, 5)
    assert find_replicates(records).groups == {"f1": (1, 3, 4)}
