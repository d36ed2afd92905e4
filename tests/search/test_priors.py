"""Priors over what is searched: the first phase draws by them, and nothing else changes."""

import numpy as np
import pytest
from scipy.stats import norm, truncnorm

from betanas.arrays import FloatArray
from betanas.errors import InputError
from betanas.parameters import Integer, Parameter, Real
from betanas.search.plan import StudyProblem, planned_problem
from betanas.search.space import Space
from betanas.study.definition import StudyDefinition

EVEN = {"name": "mine", "family": "betanet2", "resolution": 32, "dataset": {"name": "digits"}}
G0 = {"low": 1.0, "high": 4.0, "prior": {"mean": 1.5, "std": 0.4}}


def problem(**parameters: object) -> StudyProblem:
    tree = EVEN | {"budget": {"steps": 1}, "parameters": {"G0": [1.0, 4.0], **parameters}}
    search = {"sobol_trials": 30, "min_feasible": 12}
    limits = {"num_params": 300_000}
    found = StudyDefinition.model_validate(tree | {"search": search, "limits": limits})
    return planned_problem(found, 10, None, None)


def drawn(parameter: Parameter, number: int = 4000) -> FloatArray:
    """Values of one parameter at evenly spread points."""
    unit = (np.arange(number) + 0.5)[:, None] / number
    space = Space((parameter,))
    return np.asarray(space.kernels(space.by_prior(unit))[:, 0])


def test_the_first_phase_follows_a_normal_distribution_between_the_ends() -> None:
    plain, expecting = problem(), problem(G0=G0)
    column = plain.space.names.index("G0")
    points = expecting.sobol_points(0, 256)
    cut = truncnorm((1 - 1.5) / 0.4, (4 - 1.5) / 0.4, loc=1.5, scale=0.4)
    shares = np.sort(cut.cdf(points[:, column]))
    np.testing.assert_allclose(shares, (np.arange(256) + 0.5) / 256, atol=1 / 256)
    without = plain.sobol_points(0, 256)
    np.testing.assert_array_equal(np.delete(points, column, 1), np.delete(without, column, 1))
    np.testing.assert_array_equal(expecting.sobol_points(17, 3), points[17:20])


def test_its_length_counts_what_it_draws_and_the_space_stays_what_it_is() -> None:
    expecting = problem(G0=G0)
    points = expecting.sobol_points(0, expecting.sobol_length)
    assert expecting.rules.assess(points).feasible.sum() >= 12
    assert expecting.feasible_fraction() == problem().feasible_fraction()
    wide = problem(G0={"low": 1.0, "high": 32.0, "prior": {"mean": 32.0, "std": 0.1}})
    with pytest.raises(InputError, match="change the ranges or priors in"):
        wide.check_feasible()


def test_each_whole_number_has_its_share_of_the_distribution() -> None:
    values = drawn(Integer("n", 1, 5, prior=(2, 1.5)))
    inside = norm.cdf((5.5 - 2) / 1.5) - norm.cdf((0.5 - 2) / 1.5)
    for n in range(1, 6):
        mass = norm.cdf((n + 0.5 - 2) / 1.5) - norm.cdf((n - 0.5 - 2) / 1.5)
        assert np.mean(values == n) == pytest.approx(mass / inside, abs=1e-3)


def test_on_a_log_scale_the_logarithm_is_normal() -> None:
    values = np.log(drawn(Real("rate", 1e-6, 1.0, log=True, prior=(1e-3, 0.7))))
    assert values.mean() == pytest.approx(np.log(1e-3), abs=1e-3)
    assert values.std() == pytest.approx(0.7, abs=0.01)


def test_a_narrow_prior_stays_inside_its_range() -> None:
    values = drawn(Real("x", 0.0, 1.0, prior=(1.0, 1e-9)))
    assert values.min() > 0.99
    assert values.max() <= 1


@pytest.mark.parametrize("prior", [(5.0, 1.0), (2.0, 0.0), (2.0, float("nan"))])
def test_a_prior_of_an_own_parameter_has_its_mean_in_the_range(prior: tuple[float, float]) -> None:
    with pytest.raises(InputError, match=r"parameter n: a prior's mean must lie in \[1, 4\]"):
        Integer("n", 1, 4, prior=prior)
