"""Proposals: feasible, repeatable, never twice, whatever has failed before."""

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import optuna
import pytest
from small_search import add_finished, fail, is_feasible, make_problem, propose, run

from betanas.architecture.decoding import decode
from betanas.architecture.limits import Feasibility
from betanas.search import botorch_strategy
from betanas.search.sampler import FALLBACK, KernelSampler
from betanas.trial import Failure, Phase

MakeStudy = Callable[..., optuna.Study]
STRATEGIES = ["botorch", "tpe", "random", "evolution", "cmaes", "nsga2", "local", "reinforce"]


def needed_bytes(feasibility: Feasibility, kernels: np.ndarray) -> np.ndarray:
    return feasibility.check(kernels).step_bytes


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_after_the_sobol_phase_nothing_is_rejected_or_proposed_again(
    make_study: MakeStudy, strategy: str
) -> None:
    if strategy == "cmaes":
        pytest.importorskip("cmaes")
    problem = make_problem()
    study = make_study(problem, strategy)
    rejected = run(study, problem, problem.sobol_length + 8)
    assert rejected, "the test's limits are too loose"
    assert max(rejected) < problem.sobol_length
    family = problem.rules.feasibility.family
    complete = study.get_trials(states=(optuna.trial.TrialState.COMPLETE,))
    found = [decode(family, t.params, 64, 10).fingerprint for t in complete]
    assert len(set(found)) == len(found), "what is measured is not proposed again"


@pytest.mark.parametrize("strategy", ["botorch", "tpe"])
def test_nothing_is_rejected_in_a_twentieth_of_the_space(
    make_study: MakeStudy, strategy: str
) -> None:
    problem = make_problem(num_params=1_000_000, memory_bytes=2**28)
    assert problem.feasible_fraction() < 0.06
    study = make_study(problem, strategy)
    add_finished(study, problem, problem.sobol_length)
    assert run(study, problem, 5) == []


def test_phases_are_named(make_study: MakeStudy) -> None:
    problem = make_problem()
    for strategy in ("botorch", "gp", "random"):
        sampler = make_study(problem, strategy).sampler
        assert sampler.phase(problem.sobol_length - 1) is Phase.SOBOL
        proposes = Phase.RANDOM if strategy == "random" else Phase.GP
        assert sampler.phase(problem.sobol_length) is proposes


def test_named_kernels_come_before_the_points(make_study: MakeStudy) -> None:
    plain = make_problem()
    named = plain.space.kernels(np.random.default_rng(5).random((2, len(plain.space.names))))
    problem = replace(plain, start=tuple(map(tuple, named.tolist())))
    assert problem.opening_length == 2 + plain.sobol_length
    np.testing.assert_array_equal(problem.opening_points(0, 5)[:2], named)
    np.testing.assert_array_equal(problem.opening_points(1, 4)[1:], plain.sobol_points(0, 3))
    np.testing.assert_array_equal(problem.opening_points(9, 3), plain.sobol_points(7, 3))
    study = make_study(problem)
    phases = [study.sampler.phase(i) for i in (1, 2, problem.opening_length)]
    assert phases == [Phase.START, Phase.SOBOL, Phase.GP]
    kernels = [propose(study, problem)[1] for _ in range(3)]
    vectors = [problem.space.vector(kernel) for kernel in kernels]
    np.testing.assert_array_equal(vectors, problem.opening_points(0, 3))


def test_sobol_trial_i_gets_point_i(make_study: MakeStudy) -> None:
    problem = make_problem()
    study = make_study(problem)
    add_finished(study, problem, 5)
    _, kernel = propose(study, problem)
    np.testing.assert_array_equal(problem.space.vector(kernel), problem.sobol_points(5, 1)[0])


_FRESH_PROCESS = """
import json, sys
sys.path.insert(0, sys.argv[1])
import optuna
from small_search import make_problem, propose
from betanas.search.sampler import KernelSampler
problem = make_problem()
study = optuna.load_study(study_name="s", storage=sys.argv[2])
study.sampler = KernelSampler(problem)
print(json.dumps(propose(study, problem)[1]))
"""


@pytest.mark.slow
def test_a_fresh_process_proposes_the_same(make_study: MakeStudy, tmp_path: Path) -> None:
    problem = make_problem()
    study = make_study(problem, durable=True)
    add_finished(study, problem, problem.sobol_length)
    run(study, problem, 2)  # so that this process has something to remember
    copy = tmp_path / "copy.db"
    copy.write_bytes((tmp_path / "study.db").read_bytes())
    _, here = propose(study, problem)
    ended = subprocess.run(
        [sys.executable, "-c", _FRESH_PROCESS, Path(__file__).parent, f"sqlite:///{copy}"],
        capture_output=True,
        text=True,
        check=True,
    )
    there = json.loads(ended.stdout.splitlines()[-1])
    assert there == pytest.approx(here, rel=1e-6)


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_another_worker_proposes_the_same(make_study: MakeStudy, strategy: str) -> None:
    if strategy == "cmaes":
        pytest.importorskip("cmaes")
    problem = make_problem()
    kernels = []
    for _ in range(2):
        study = make_study(problem, strategy)
        add_finished(study, problem, problem.sobol_length)
        run(study, problem, 2)
        study.sampler = KernelSampler(problem, strategy)
        kernels.append(propose(study, problem)[1])
    assert kernels[0] == kernels[1]


@pytest.mark.parametrize("strategy", ["botorch", "evolution"])
def test_workers_at_the_same_time_never_train_the_same(
    make_study: MakeStudy, strategy: str
) -> None:
    problem = make_problem()
    study = make_study(problem, strategy, durable=True)
    add_finished(study, problem, problem.sobol_length)
    rules = problem.rules.feasibility
    fingerprints = [
        decode(rules.family, propose(study, problem)[1], 64, 10).fingerprint for _ in range(4)
    ]
    assert len(set(fingerprints)) == 4


def test_out_of_memory_tightens_the_limit(make_study: MakeStudy) -> None:
    problem = make_problem()
    study = make_study(problem)
    add_finished(study, problem, problem.sobol_length)
    points = problem.sobol_points(0, problem.sobol_length)
    fitted = needed_bytes(
        problem.rules.feasibility, points[problem.rules.feasibility.feasible(points)]
    ).max()
    ceiling = np.inf
    for _ in range(8):
        trial, kernel = propose(study, problem)
        needed = needed_bytes(problem.rules.feasibility, problem.space.vector(kernel)[None, :])[0]
        assert needed < ceiling
        if needed > fitted:
            fail(study, trial, Failure.OUT_OF_MEMORY)
            ceiling = needed
        else:
            study.tell(trial, 0.5)


def test_out_of_memory_below_what_has_fitted_tightens_nothing(make_study: MakeStudy) -> None:
    problem = make_problem()
    points = problem.sobol_points(0, 64)
    points = points[problem.rules.feasibility.feasible(points)]
    order = np.argsort(needed_bytes(problem.rules.feasibility, points))
    rules = problem.rules
    smallest, largest = points[order[:1]], points[order[-1:]]
    assert rules.tightened(smallest, largest) == rules
    tightened = rules.tightened(largest, smallest)
    assert not tightened.assess(largest).feasible[0]
    assert tightened.assess(smallest).feasible[0]


def test_other_failures_are_learnt_as_bad(make_study: MakeStudy) -> None:
    problem = make_problem()
    study = make_study(problem)
    add_finished(study, problem, problem.sobol_length)
    space = problem.space
    proposals = []
    for _ in range(4):
        trial, kernel = propose(study, problem)
        proposals.append(space.unit(space.vector(kernel)[None, :])[0])
        fail(study, trial, Failure.DIVERGED)
    gaps = [np.linalg.norm(a - b) for i, a in enumerate(proposals) for b in proposals[:i]]
    assert min(gaps) > 0.05


@pytest.mark.parametrize("value", [0.1, float("nan")])
def test_a_model_that_cannot_be_fitted_falls_back_and_says_so(
    make_study: MakeStudy, monkeypatch: pytest.MonkeyPatch, value: float
) -> None:
    problem = make_problem()
    study = make_study(problem)
    add_finished(study, problem, problem.sobol_length)

    def broken(*args: object, **kwargs: object) -> None:
        raise np.linalg.LinAlgError("not positive definite")

    if np.isnan(value):
        monkeypatch.setattr(botorch_strategy, "Surrogate", broken)
    trial, kernel = propose(study, problem)
    assert is_feasible(problem, kernel)
    told = study.get_trials()[trial.number].user_attrs.get(FALLBACK)
    assert (told is not None) == bool(np.isnan(value))


def test_too_few_trials_for_a_model_fall_back_and_say_so(make_study: MakeStudy) -> None:
    problem = make_problem()
    study = make_study(problem)
    for kernel in problem.sobol_points(0, problem.sobol_length):
        study.add_trial(
            optuna.trial.create_trial(
                params=problem.space.kernel(kernel),
                distributions=problem.space.distributions,
                state=optuna.trial.TrialState.PRUNED,
            )
        )
    trial, kernel = propose(study, problem)
    assert is_feasible(problem, kernel)
    assert "too few" in study.get_trials()[trial.number].user_attrs[FALLBACK]


def test_equal_values_are_no_trouble(make_study: MakeStudy) -> None:
    problem = make_problem()
    study = make_study(problem)
    for _ in range(problem.sobol_length + 3):
        trial, kernel = propose(study, problem)
        if is_feasible(problem, kernel):
            study.tell(trial, 0.1)
        else:
            study.tell(trial, state=optuna.trial.TrialState.PRUNED)
    assert all(FALLBACK not in t.user_attrs for t in study.get_trials())


def test_fixed_parameters_stay_fixed(make_study: MakeStudy) -> None:
    problem = make_problem(fixed={"B": 0.5, "S0": 12.0})
    study = make_study(problem)
    add_finished(study, problem, problem.sobol_length)
    _, kernel = propose(study, problem)
    assert (kernel["B"], kernel["S0"]) == (0.5, 12.0)
