"""Recipe values that are searched beside the kernel."""

from collections.abc import Callable

import numpy as np
import optuna
import pytest
from small_search import accuracy

from betanas.architecture.limits import Feasibility, Limits
from betanas.search.plan import StudyProblem
from betanas.search.problem import Problem
from betanas.search.rules import ArchitectureRules
from betanas.search.space import Space
from betanas.study.definition import StudyDefinition

RATE = "recipe.learning_rate"


def definition() -> StudyDefinition:
    return StudyDefinition.model_validate(
        {
            "name": "s",
            "family": "betanet2",
            "resolution": 64,
            "dataset": {"name": "digits"},
            "recipe": {"learning_rate": {"low": 1e-4, "high": 1e-1, "log": True}},
            "budget": {"steps": 1},
        }
    )


def make_problem() -> StudyProblem:
    space = Space(definition().searched)
    feasibility = Feasibility(definition().search_family, 10, 32, 2, Limits(64, 6_000_000))
    return Problem(space, ArchitectureRules(space, feasibility), 0, 24, 6)


def test_the_unit_cube_is_even_in_the_logarithm() -> None:
    space = make_problem().space
    unit = np.random.default_rng(0).random((200, len(space.names)))
    kernels = space.kernels(unit)
    rate = kernels[:, space.names.index(RATE)]
    assert rate.min() >= 1e-4
    assert rate.max() <= 1e-1
    assert 0.25 < np.mean(rate < 1e-3) < 0.42  # a third of three decades
    np.testing.assert_allclose(space.unit(kernels), unit, atol=1e-9)
    assert space.distributions[RATE].log


def test_feasibility_is_the_architectures() -> None:
    problem = make_problem()
    kernels = problem.sobol_points(0, 64)
    other = kernels.copy()
    other[:, -1] = 0.05
    rules = problem.rules
    assert np.array_equal(rules.assess(kernels).feasible, rules.assess(other).feasible)
    one = kernels[rules.assess(kernels).feasible][0]
    again = one.copy()
    again[-1] = 0.05
    assert rules.identity(one) != rules.identity(again)  # another experiment, not a duplicate
    assert rules.identity(one) == rules.identity(one.copy())


@pytest.mark.parametrize(
    "strategy", [pytest.param("botorch", marks=pytest.mark.slow), "tpe", "evolution"]
)
def test_the_search_finds_the_learning_rate(
    make_study: Callable[..., optuna.Study], strategy: str
) -> None:
    problem = make_problem()
    study = make_study(problem, strategy)
    values = []
    for _ in range(problem.sobol_length + 24):
        trial = study.ask()
        kernel = {
            name: trial.suggest_float(name, d.low, d.high, log=d.log)
            for name, d in problem.space.distributions.items()
        }
        vector = problem.space.vector(kernel)[None, :]
        if not problem.rules.check(vector).feasible[0]:
            assert trial.number < problem.sobol_length
            study.tell(trial, state=optuna.trial.TrialState.PRUNED)
            continue
        value = accuracy(kernel) - (np.log10(kernel[RATE]) + 2) ** 2
        values.append(value)
        study.tell(trial, value)
    rate = study.best_params[RATE]
    assert abs(np.log10(rate) + 2) < 0.6, f"found {rate:g}, best is 0.01"
