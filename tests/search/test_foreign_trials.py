"""Trials that somebody else has written into a study: Optuna's own loop, its command line."""

from collections.abc import Callable

import numpy as np
import optuna
import pytest
from optuna.trial import TrialState, create_trial
from small_search import accuracy, add_finished, is_feasible, make_problem, propose

from betanas.search.plan import StudyProblem
from betanas.search.recommend import recommend
from betanas.search.sampler import FALLBACK
from betanas.search.situation import Situation
from betanas.trial import STOPPED_EARLY, TrialRecord

MakeStudy = Callable[..., optuna.Study]


def add_foreign(study: optuna.Study, problem: StudyProblem) -> None:
    """Trials of every state, with our kernel, another one's, or none."""
    space = problem.space
    ours = space.kernel(problem.sobol_points(100, 1)[0])
    wide = {name: optuna.distributions.FloatDistribution(-99, 99) for name in space.names}
    outside = ours | {"K": 77.0}
    trivial = ours | {"k": 9.5}
    for params, known in ((ours, space.distributions), (outside, wide), (trivial, wide), ({}, {})):
        for state, value in (
            (TrialState.COMPLETE, 0.5),
            (TrialState.FAIL, None),
            (TrialState.PRUNED, None),
            (TrialState.RUNNING, None),
        ):
            study.add_trial(
                create_trial(state=state, value=value, params=params, distributions=dict(known))
            )
    study.add_trial(
        create_trial(value=float("inf"), params=ours, distributions=dict(space.distributions))
    )
    study.optimize(lambda _: 1 / 0, n_trials=1, catch=ZeroDivisionError)
    study.tell(study.ask(), state=TrialState.FAIL)


@pytest.mark.parametrize(
    "strategy",
    ["botorch", "tpe", "random", "evolution", "cmaes", "nsga2", "local", "reinforce"],
)
def test_the_search_goes_on_beside_them(make_study: MakeStudy, strategy: str) -> None:
    if strategy == "cmaes":
        pytest.importorskip("cmaes")
    problem = make_problem()
    study = make_study(problem, strategy)
    add_finished(study, problem, problem.sobol_length)
    add_foreign(study, problem)
    for _ in range(2):
        trial, kernel = propose(study, problem)
        assert is_feasible(problem, kernel)
        assert FALLBACK not in study.trials[trial.number].user_attrs
        study.tell(trial, accuracy(kernel))


def test_the_recommendation_ignores_what_has_no_kernel() -> None:
    problem = make_problem()
    points = problem.sobol_points(0, 200)
    kernels = [problem.space.kernel(k) for k in points[problem.rules.assess(points).feasible][:12]]
    records = [
        TrialRecord(i, "complete", value=accuracy(k), parameters=k) for i, k in enumerate(kernels)
    ]
    foreign = [
        TrialRecord(90, "complete", value=0.99),
        TrialRecord(91, "complete", value=0.99, parameters={"x": 1.0}),
        TrialRecord(92, "complete", value=0.99, parameters=kernels[0] | {"K": 77.0}),
        TrialRecord(93, "fail"),
    ]
    assert recommend(problem, [*records, *foreign]) == recommend(problem, records)


# -- trials that the pruner stopped ---------------------------------------------------------------


def feasible_points(problem: StudyProblem) -> np.ndarray:
    points = problem.sobol_points(0, 100)
    return points[problem.rules.assess(points).feasible]


def add_curve(
    study: optuna.Study,
    problem: StudyProblem,
    point: int,
    curve: dict[int, float],
    *,
    stopped: bool,
) -> None:
    study.add_trial(
        create_trial(
            state=TrialState.PRUNED if stopped else TrialState.COMPLETE,
            value=None if stopped else max(curve.values()),
            params=problem.space.kernel(feasible_points(problem)[point]),
            distributions=dict(problem.space.distributions),
            intermediate_values=curve,
            user_attrs={"reason": STOPPED_EARLY} if stopped else {},
        )
    )


def test_a_stopped_trial_is_no_final_value(make_study: MakeStudy) -> None:
    problem = make_problem()
    study = make_study(problem)
    for i, (half, end) in enumerate([(0.4, 0.7), (0.5, 0.9), (0.3, 0.8)]):
        add_curve(study, problem, i, {25: half / 2, 50: half, 100: end}, stopped=False)
    add_curve(study, problem, 5, {25: 0.1, 50: 0.2}, stopped=True)
    seen = Situation.of(study, study.ask()._cached_frozen_trial, problem).stopped
    # It would have gained what the complete ones gained from half on: 0.3, 0.4, 0.5.
    assert seen.values == pytest.approx([0.6])
    assert seen.stds == pytest.approx([0.1])


def test_without_complete_trials_to_compare_nothing_is_expected(make_study: MakeStudy) -> None:
    problem = make_problem()
    study = make_study(problem)
    add_curve(study, problem, 0, {50: 0.4, 100: 0.7}, stopped=False)
    add_curve(study, problem, 1, {100: 0.7}, stopped=False)
    add_curve(study, problem, 5, {50: 0.2}, stopped=True)
    seen = Situation.of(study, study.ask()._cached_frozen_trial, problem)
    assert len(seen.stopped.kernels) == 1
    assert len(seen.stopped.expected.kernels) == 0
    assert len(seen.known) == 3  # but it is not proposed again
    assert np.isfinite(seen.values).all()
