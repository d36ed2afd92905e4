"""A seeded study's proposals stay what they were: golden/proposals.json, by the first release."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import optuna
import pytest
from small_search import add_finished, fail, make_problem, propose, run

from betanas.trial import Failure

GOLDEN = json.loads((Path(__file__).parents[1] / "golden" / "proposals.json").read_text())


# The Gaussian process's own depend on the last bit of the machine's linear algebra.
@pytest.mark.parametrize("strategy", GOLDEN)
def test_proposals_are_those_of_the_first_release(
    make_study: Callable[..., optuna.Study], strategy: str
) -> None:
    problem = make_problem(fixed={"B": 0.5})
    study = make_study(problem, strategy)
    add_finished(study, problem, problem.sobol_length)
    propose(study, problem)
    trial, _ = propose(study, problem)
    fail(study, trial, Failure.DIVERGED)
    run(study, problem, 5)
    found = [problem.space.vector(t.params) for t in study.get_trials()[problem.sobol_length - 2 :]]
    np.testing.assert_allclose(found, GOLDEN[strategy], rtol=1e-12)
