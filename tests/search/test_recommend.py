"""The recommended best, and whether to believe it."""

from collections.abc import Mapping

import numpy as np
from small_search import accuracy, is_feasible, make_problem

from betanas.architecture.complexity import step_bytes
from betanas.search.plan import StudyProblem
from betanas.search.recommend import MIN_TRIALS, recommend
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
    costs = problem.rules.feasibility.check(problem.space.vector(parameters)[None, :]).complexities
    return float(step_bytes(costs, problem.rules.feasibility.optimizer_slots)[0])


def test_recommends_a_better_kernel_than_was_observed() -> None:
    problem, observed = make_problem(), records(noise=0.01)
    found = recommend(problem, observed)
    assert found is not None
    assert is_feasible(problem, found.parameters)
    assert accuracy(found.parameters) > max(accuracy(dict(r.parameters)) for r in observed)
    assert abs(found.predicted_value - accuracy(found.parameters)) < 4 * found.predicted_std + 0.05


def test_quality_tells_a_landscape_from_noise() -> None:
    problem = make_problem()
    good = recommend(problem, records(noise=0.01))
    bad = recommend(problem, records(noise=100.0))
    assert good is not None
    assert bad is not None
    assert good.rank_correlation is not None
    assert good.rank_correlation > 0.8
    assert bad.rank_correlation is None or bad.rank_correlation < 0.4
    # From sixty points in more dimensions than there is data for, intervals are a little too sure.
    assert good.coverage is not None
    assert bad.coverage is not None
    assert min(good.coverage, bad.coverage) > 0.7


def test_is_the_same_again() -> None:
    problem, observed = make_problem(), records(noise=0.01)
    first = recommend(problem, observed)
    assert recommend(problem, observed) == first


def test_needs_trials() -> None:
    problem = make_problem()
    few = records(noise=0.0, number=MIN_TRIALS - 1)
    assert recommend(problem, few) is None


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
