"""The recommended best, and whether to believe it."""

from collections.abc import Mapping

import numpy as np
from small_search import accuracy, is_feasible, make_phase

from betanas.architecture.complexity import step_bytes
from betanas.search.recommend import MIN_TRIALS, recommend
from betanas.search.space import SobolPhase
from betanas.trial import Failure, TrialRecord


def records(noise: float, number: int = 60) -> list[TrialRecord]:
    phase = make_phase()
    rng = np.random.default_rng(0)
    points = phase.points(0, 6 * number)
    kernels = points[phase.feasibility.feasible(points)][:number]
    named = [phase.space.kernel(kernel) for kernel in kernels]
    return [
        TrialRecord(i, "complete", value=accuracy(k) + noise * rng.normal(), parameters=k)
        for i, k in enumerate(named)
    ]


def bytes_of_a_step(phase: SobolPhase, parameters: Mapping[str, float]) -> float:
    costs = phase.feasibility.check(phase.space.vector(parameters)[None, :]).complexities
    return float(step_bytes(costs, phase.feasibility.optimizer_slots)[0])


def test_recommends_a_better_kernel_than_was_observed() -> None:
    phase, observed = make_phase(), records(noise=0.01)
    found = recommend(phase.space, phase.feasibility, observed, 0)
    assert found is not None
    assert is_feasible(phase, found.parameters)
    assert accuracy(found.parameters) > max(accuracy(dict(r.parameters)) for r in observed)
    assert abs(found.predicted_value - accuracy(found.parameters)) < 4 * found.predicted_std + 0.05


def test_quality_tells_a_landscape_from_noise() -> None:
    phase = make_phase()
    good = recommend(phase.space, phase.feasibility, records(noise=0.01), 0)
    bad = recommend(phase.space, phase.feasibility, records(noise=100.0), 0)
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
    phase, observed = make_phase(), records(noise=0.01)
    first = recommend(phase.space, phase.feasibility, observed, 0)
    assert recommend(phase.space, phase.feasibility, observed, 0) == first


def test_needs_trials() -> None:
    phase = make_phase()
    few = records(noise=0.0, number=MIN_TRIALS - 1)
    assert recommend(phase.space, phase.feasibility, few, 0) is None


def test_does_not_recommend_what_ran_out_of_memory() -> None:
    phase, observed = make_phase(), records(noise=0.01, number=120)
    found = recommend(phase.space, phase.feasibility, observed, 0)
    assert found is not None
    needed = bytes_of_a_step(phase, found.parameters)
    small = [r for r in observed if bytes_of_a_step(phase, r.parameters) < needed]
    failed = TrialRecord(99, "fail", reason=Failure.OUT_OF_MEMORY, parameters=found.parameters)
    again = recommend(phase.space, phase.feasibility, [*small, failed], 0)
    assert again is not None
    assert bytes_of_a_step(phase, again.parameters) < needed
