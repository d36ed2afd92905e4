"""The Sobol phase: a function of the study file alone, and it says when nothing is feasible."""

import numpy as np
import pytest
from optuna._transform import _SearchSpaceTransform
from small_search import make_problem

from betanas.errors import InputError


def test_point_i_is_point_i_whoever_asks() -> None:
    whole = make_problem().sobol_points(0, 40)
    np.testing.assert_array_equal(make_problem().sobol_points(17, 3), whole[17:20])
    assert not np.array_equal(make_problem(seed=1).sobol_points(0, 40), whole)


def test_phase_goes_on_until_enough_points_are_feasible() -> None:
    problem = make_problem(num_params=400_000, sobol_trials=24, min_feasible=12)
    feasible = problem.rules.feasibility.feasible(problem.sobol_points(0, problem.sobol_length))
    assert problem.sobol_length > 24
    assert feasible.sum() == 12
    assert feasible[-1]


def test_phase_is_as_long_as_asked_where_much_is_feasible() -> None:
    assert make_problem(num_params=100_000_000).sobol_length == 24


def test_limits_that_leave_nothing_are_named_at_once() -> None:
    with pytest.raises(InputError, match=r"no kernel is feasible.*num_params rejects.*raise"):
        make_problem(num_params=1000).check_feasible()


def test_fixed_parameters_are_not_searched() -> None:
    problem = make_problem(fixed={"B": 0.5, "k": 3.0})
    assert set(problem.space.names) - set(problem.space.searched) == {"B", "k"}
    assert np.all(problem.sobol_points(0, 8)[:, problem.space.names.index("B")] == 0.5)


def test_kernels_survive_optuna_unchanged() -> None:
    space = make_problem().space
    top = space.kernels(np.ones((1, len(space.names))))
    transform = _SearchSpaceTransform(space.searched)
    named = space.kernel(top[0])
    assert transform.untransform(transform.transform(named)) == named
