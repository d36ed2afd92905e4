"""The recommended best, and whether to believe it."""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import pytest
from small_search import accuracy, is_feasible, make_problem

from betanas.search.plan import StudyProblem
from betanas.search.quality import ModelQuality, widened, widening
from betanas.search.recommend import MIN_TRIALS, Recommendation, evenly_ranked, recommend
from betanas.trial import Failure, TrialRecord


def records(noise: float, number: int = 60) -> list[TrialRecord]:
    problem = make_problem()
    rng = np.random.default_rng(0)
    points = problem.sobol_points(0, 6 * number)
    kernels = points[problem.rules.feasibility.feasible(points)][:number]
    named = [problem.space.kernel(kernel) for kernel in kernels]
    return [
        TrialRecord(i, "complete", value=accuracy(k) + noise * rng.normal(), parameters=k)
        for i, k in enumerate(named)
    ]


def bytes_of_a_step(problem: StudyProblem, parameters: Mapping[str, float]) -> float:
    return float(problem.rules.check(problem.space.vector(parameters)[None, :]).step_bytes[0])


@pytest.fixture(scope="module")
def found() -> Recommendation:
    recommended = recommend(make_problem(), records(noise=0.01))
    assert recommended is not None
    return recommended


def test_recommends_a_better_kernel_than_was_observed(found: Recommendation) -> None:
    problem, observed = make_problem(), records(noise=0.01)
    assert is_feasible(problem, found.parameters)
    assert accuracy(found.parameters) > max(accuracy(dict(r.parameters)) for r in observed)
    assert abs(found.predicted_value - accuracy(found.parameters)) < 4 * found.predicted_std + 0.05


@pytest.mark.parametrize(
    ("state", "reason"),
    [("pruned", "stopped_early"), ("fail", "diverged"), ("pruned", "latency")],
)
def test_what_has_come_to_no_good_is_not_recommended(
    found: Recommendation, state: str, reason: str
) -> None:
    problem, known = make_problem(), records(noise=0.01)
    bad = TrialRecord(len(known), state, reason=reason, parameters=found.parameters)
    other = recommend(problem, [*known, bad])
    assert other is not None
    assert other.parameters != found.parameters
    assert is_feasible(problem, other.parameters)
    # Somebody else's trouble with it says nothing.
    killed = replace(bad, state="fail", reason="killed")
    assert recommend(problem, [*known, killed]) == found


def test_quality_tells_a_landscape_from_noise(found: Recommendation) -> None:
    good, bad = found, recommend(make_problem(), records(noise=100.0))
    assert bad is not None
    assert good.quality.spearman is not None
    assert good.quality.spearman > 0.8
    assert bad.quality.spearman is None or bad.quality.spearman < 0.4
    assert min(good.quality.coverage, bad.quality.coverage) > 0.85


def quality(measured: list[float], predicted: list[float]) -> ModelQuality:
    return ModelQuality(np.array(measured), np.array(predicted), np.full(len(measured), 0.1), 0.1)


def test_deviations_are_widened_by_the_errors_of_other_folds() -> None:
    errors, folds = np.array([0.1, -0.1, 0.3, -0.3]), np.array([0, 0, 1, 1])
    stds = np.full(4, 0.1)
    # Four pseudo-errors of one deviation, and two of one or of three.
    ones, threes = np.sqrt((4 + 2) / 6), np.sqrt((4 + 18) / 6)
    np.testing.assert_allclose(widened(errors, stds, folds), 0.1 * np.repeat([threes, ones], 2))
    assert widening(errors, stds) == pytest.approx(np.sqrt((4 + 20) / 8))
    assert widening(errors[:0], stds[:0]) == 1


def test_intervals_of_a_model_that_is_too_sure_hold_what_they_should() -> None:
    rng = np.random.default_rng(0)
    stds = rng.uniform(0.1, 0.3, 2000)
    errors = 1.7 * stds * rng.normal(size=2000)
    folds = np.arange(2000) % 10
    zeros = np.zeros(2000)
    raw = ModelQuality(errors, zeros, stds, 0.1)
    honest = ModelQuality(errors, zeros, widened(errors, stds, folds), 0.1)
    assert raw.coverage < 0.8
    assert honest.coverage == pytest.approx(0.95, abs=0.02)


def test_equal_values_share_their_rank() -> None:
    measured, predicted = [0.1, 0.1, 0.1, 0.1, 0.9], [0.5, 0.4, 0.3, 0.2, 0.1]
    # Ranked in the order of the trials, equal values would look like agreement or its opposite.
    assert quality(measured, predicted).spearman == pytest.approx(-1 / np.sqrt(2))
    assert quality(measured, predicted[::-1]).spearman == pytest.approx(1 / np.sqrt(2))


def test_quality_of_known_predictions() -> None:
    found = quality([0.5, 0.6, 0.7, 0.8], [0.5, 0.6, 0.7, 0.5])
    assert found.rmse == pytest.approx(0.15)
    assert found.r2 == pytest.approx(1 - 0.0225 / 0.0125)
    assert found.coverage == 0.75
    same = quality([0.5, 0.5], [0.4, 0.6])
    assert (same.r2, same.spearman) == (None, None)
    assert quality([0.5, 0.6], [0.4, 0.4]).spearman is None


def test_is_the_same_again(found: Recommendation) -> None:
    again = recommend(make_problem(), records(noise=0.01))
    assert again is not None
    assert again.to_json() == found.to_json()
    np.testing.assert_array_equal(again.quality.predicted, found.quality.predicted)


def test_needs_trials() -> None:
    problem = make_problem()
    few = records(noise=0.0, number=MIN_TRIALS - 1)
    assert recommend(problem, few) is None
    again = [replace(few[0], number=i) for i in range(2 * MIN_TRIALS)]
    assert recommend(problem, again) is None  # one kernel, many trainings


def test_large_studies_are_learnt_from_evenly() -> None:
    values = np.random.default_rng(0).permutation(1000) / 1000
    chosen = evenly_ranked(values, 10)
    assert list(chosen) == sorted(chosen)
    assert values[chosen].max() == values.max()
    assert values[chosen].min() == values.min()
    assert np.diff(np.sort(values[chosen])).round(3).tolist() == [0.111] * 9
    assert list(evenly_ranked(values[:10], 10)) == list(range(10))
    assert len(evenly_ranked(values[:0], 10)) == 0


def test_does_not_recommend_what_ran_out_of_memory() -> None:
    problem, observed = make_problem(), records(noise=0.01, number=120)
    found = recommend(problem, observed)
    assert found is not None
    needed = bytes_of_a_step(problem, found.parameters)
    small = [r for r in observed if bytes_of_a_step(problem, r.parameters) < needed]
    failed = TrialRecord(99, "fail", reason=Failure.OUT_OF_MEMORY, parameters=found.parameters)
    again = recommend(problem, [*small, failed])
    assert again is not None
    assert bytes_of_a_step(problem, again.parameters) < needed
