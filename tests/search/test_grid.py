"""The grid search by which EfficientNet's multipliers were found."""

from dataclasses import replace

import numpy as np
import optuna
import pytest
from small_search import fail

from betanas.architecture.efficientnet import EFFICIENTNET
from betanas.architecture.limits import Feasibility, Limits
from betanas.errors import InputError
from betanas.parameters import Choice, Integer, Real
from betanas.search.grid import Grid
from betanas.search.plan import planned_problem
from betanas.search.problem import Problem
from betanas.search.rules import ArchitectureRules
from betanas.search.sampler import KernelSampler
from betanas.search.space import Space
from betanas.study.loading import load_definition
from betanas.trial import Failure

optuna.logging.set_verbosity(optuna.logging.WARNING)


def problem_of(step: float, resolution: int = 16) -> Problem:
    one = EFFICIENTNET.parameters[3].narrowed(1.0)
    space = Space((*EFFICIENTNET.parameters[:3], one))
    rules = ArchitectureRules(space, Feasibility(EFFICIENTNET, 10, 8, 2, Limits(resolution)))
    return Problem(space, rules, 0, 0, 0, grid_step=step)


def test_the_published_grid_has_108_points_in_the_band() -> None:
    problem = problem_of(0.05)
    points = Grid(problem.space, 0, 0.05).points
    assert points.shape == (21**3, 4)
    assert len(np.unique(points, axis=0)) == len(points)
    assert int(problem.rules.assess(points).feasible.sum()) == 108
    found = [1.2, 1.1, 1.15, 1.0]  # by the authors
    assert (points == found).all(axis=1).sum() == 1


def test_a_study_of_a_grid_tries_every_network_once_and_then_says_so() -> None:
    problem = problem_of(0.1)
    points = Grid(problem.space, 0, 0.1).points
    allowed = points[problem.rules.assess(points).feasible]
    networks = {problem.rules.identity(x) for x in allowed}
    assert 1 < len(networks) < len(allowed)  # depths are rounded, so points have networks in common
    study = optuna.create_study(sampler=KernelSampler(problem, "grid"), direction="maximize")
    for i in range(len(networks) + 1):
        trial = study.ask(problem.space.distributions)
        study.tell(trial, float(i))
    tried = [problem.space.vector(t.params) for t in study.trials]
    assert {problem.rules.identity(x) for x in tried[:-1]} == networks
    assert all((points == x).all(axis=1).any() for x in tried[:-1])
    notes = [t.user_attrs.get("fallback") for t in study.trials]
    assert notes[:-1] == [None] * len(networks)
    assert "points of the grid are known or infeasible" in notes[-1]


def test_what_was_killed_again_and_again_is_not_proposed_again() -> None:
    problem = problem_of(0.1)
    study = optuna.create_study(sampler=KernelSampler(problem, "grid"), direction="maximize")
    networks = []
    for _ in range(3):
        trial = study.ask(problem.space.distributions)
        networks.append(problem.rules.identity(problem.space.vector(trial.params)))
        fail(study, trial, Failure.KILLED)
    assert len(set(networks)) == 3


def test_running_trials_are_not_proposed_again() -> None:
    problem = problem_of(0.1)
    study = optuna.create_study(sampler=KernelSampler(problem, "grid"))
    trials = [study.ask(problem.space.distributions) for _ in range(3)]
    assert len({problem.rules.identity(problem.space.vector(t.params)) for t in trials}) == 3


def test_a_grid_has_all_options_and_whole_numbers_and_ends_inside_the_range() -> None:
    space = Space((Choice("c", ("a", "b")), Integer("n", 2, 4), Real("x", 0.0, 1.0)))
    points = Grid(space, 1, 0.3).points
    assert len(points) == 2 * 3 * 4
    assert sorted(set(points[:, 2])) == [0.0, 0.3, 0.6, 0.9]
    assert all(space.holds(space.kernel(x)) for x in points)
    with pytest.raises(InputError, match="at most 1,000,000 points, but has 6,000,006; raise"):
        Grid(space, 1, 1e-6)


def test_the_built_in_study_opens_with_its_grid_and_ends_with_its_last_network() -> None:
    definition = load_definition("efficientnet-grid")
    problem = planned_problem(definition, 10, 2 * 2**30, None)
    problem.check_feasible()
    assert problem.opening_length == 0
    points = Grid(problem.space, 0, problem.grid_step).points
    allowed = points[problem.rules.assess(points).feasible]
    assert len(allowed) == 108
    assert len({problem.rules.identity(x) for x in allowed}) == definition.search.trials
    with pytest.raises(InputError, match=r"raise search\.grid_step = 0\.001"):
        KernelSampler(replace(problem, grid_step=0.001), "grid")
