"""The Sobol phase: a function of the study file alone, and it says when nothing is feasible."""

import numpy as np
import pytest
from optuna._transform import _SearchSpaceTransform
from small_search import make_phase

from betanas.errors import InputError


def test_point_i_is_point_i_whoever_asks() -> None:
    whole = make_phase().points(0, 40)
    np.testing.assert_array_equal(make_phase().points(17, 3), whole[17:20])
    assert not np.array_equal(make_phase(seed=1).points(0, 40), whole)


def test_phase_goes_on_until_enough_points_are_feasible() -> None:
    phase = make_phase(num_params=400_000, sobol_trials=24, min_feasible=12)
    feasible = phase.feasibility.feasible(phase.points(0, phase.length))
    assert phase.length > 24
    assert feasible.sum() == 12
    assert feasible[-1]


def test_phase_is_as_long_as_asked_where_much_is_feasible() -> None:
    assert make_phase(num_params=100_000_000).length == 24


def test_limits_that_leave_nothing_are_named_at_once() -> None:
    with pytest.raises(InputError, match=r"no kernel is feasible.*num_params rejects.*raise"):
        make_phase(num_params=1000).check_feasible()


def test_fixed_parameters_are_not_searched() -> None:
    phase = make_phase(fixed={"B": 0.5, "k": 3.0})
    assert set(phase.space.names) - set(phase.space.searched) == {"B", "k"}
    assert np.all(phase.points(0, 8)[:, phase.space.names.index("B")] == 0.5)


def test_kernels_survive_optuna_unchanged() -> None:
    space = make_phase().space
    top = space.kernels(np.ones((1, len(space.names))))
    transform = _SearchSpaceTransform(space.searched)
    named = space.kernel(top[0])
    assert transform.untransform(transform.transform(named)) == named
