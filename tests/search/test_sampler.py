"""Proposals: feasible, repeatable, never twice, whatever has failed before."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import optuna
import pytest
from small_search import add_finished, fail, is_feasible, make_phase, propose, run

from betanas.architecture.complexity import step_bytes
from betanas.architecture.decoding import decode
from betanas.architecture.limits import Feasibility
from betanas.search import proposal
from betanas.search.sampler import FALLBACK, KernelSampler
from betanas.search.space import SobolPhase
from betanas.trial import Failure, Phase

MakeStudy = Callable[..., optuna.Study]
STRATEGIES = ["gp", "tpe", "random", "evolution", "cmaes"]


def needed_bytes(feasibility: Feasibility, kernels: np.ndarray) -> np.ndarray:
    return step_bytes(feasibility.check(kernels).complexities, feasibility.optimizer_slots)


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_nothing_is_rejected_after_the_sobol_phase(make_study: MakeStudy, strategy: str) -> None:
    if strategy == "cmaes":
        pytest.importorskip("cmaes")
    phase = make_phase()
    rejected = run(make_study(phase, strategy), phase, phase.length + 12)
    assert rejected, "the test's limits are too loose"
    assert max(rejected) < phase.length


@pytest.mark.parametrize("strategy", ["gp", "tpe"])
def test_nothing_is_rejected_in_a_twentieth_of_the_space(
    make_study: MakeStudy, strategy: str
) -> None:
    phase = make_phase(num_params=1_000_000, memory_bytes=2**28)
    assert phase.feasible_fraction() < 0.06
    study = make_study(phase, strategy)
    add_finished(study, phase, phase.length)
    assert run(study, phase, 10) == []


def test_phases_are_named(make_study: MakeStudy) -> None:
    phase = make_phase()
    for strategy in ("gp", "random"):
        sampler = make_study(phase, strategy).sampler
        assert sampler.phase(phase.length - 1) is Phase.SOBOL
        assert sampler.phase(phase.length) is Phase(strategy)


def test_sobol_trial_i_gets_point_i(make_study: MakeStudy) -> None:
    phase = make_phase()
    study = make_study(phase)
    add_finished(study, phase, 5)
    _, kernel = propose(study, phase)
    np.testing.assert_array_equal(phase.space.vector(kernel), phase.points(5, 1)[0])


_FRESH_PROCESS = """
import json, sys
sys.path.insert(0, sys.argv[1])
import optuna
from small_search import make_phase, propose
from betanas.search.sampler import KernelSampler
phase = make_phase()
study = optuna.load_study(study_name="s", storage=sys.argv[2])
study.sampler = KernelSampler(phase, phase.seed)
print(json.dumps(propose(study, phase)[1]))
"""


def test_a_fresh_process_proposes_the_same(make_study: MakeStudy, tmp_path: Path) -> None:
    phase = make_phase()
    study = make_study(phase, durable=True)
    add_finished(study, phase, phase.length)
    run(study, phase, 2)  # so that this process has something to remember
    copy = tmp_path / "copy.db"
    copy.write_bytes((tmp_path / "study.db").read_bytes())
    _, here = propose(study, phase)
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
    phase = make_phase()
    kernels = []
    for _ in range(2):
        study = make_study(phase, strategy)
        add_finished(study, phase, phase.length)
        run(study, phase, 2)
        study.sampler = KernelSampler(phase, phase.seed, strategy)
        kernels.append(propose(study, phase)[1])
    assert kernels[0] == kernels[1]


@pytest.mark.parametrize("strategy", ["gp", "evolution"])
def test_workers_at_the_same_time_never_train_the_same(
    make_study: MakeStudy, strategy: str
) -> None:
    phase = make_phase()
    study = make_study(phase, strategy, durable=True)
    add_finished(study, phase, phase.length)
    rules = phase.feasibility
    fingerprints = [
        decode(rules.family, propose(study, phase)[1], 64, 10).fingerprint for _ in range(6)
    ]
    assert len(set(fingerprints)) == 6


def test_a_measured_architecture_is_not_proposed_again(make_study: MakeStudy) -> None:
    phase = make_phase()
    study = make_study(phase)
    add_finished(study, phase, phase.length)
    run(study, phase, 12)
    rules = phase.feasibility
    complete = study.get_trials(states=(optuna.trial.TrialState.COMPLETE,))
    found = [decode(rules.family, t.params, 64, 10).fingerprint for t in complete]
    assert len(set(found)) == len(found)


def test_out_of_memory_tightens_the_limit(make_study: MakeStudy) -> None:
    phase = make_phase()
    study = make_study(phase)
    add_finished(study, phase, phase.length)
    points = phase.points(0, phase.length)
    fitted = needed_bytes(phase.feasibility, points[phase.feasibility.feasible(points)]).max()
    ceiling = np.inf
    for _ in range(12):
        trial, kernel = propose(study, phase)
        needed = needed_bytes(phase.feasibility, phase.space.vector(kernel)[None, :])[0]
        assert needed < ceiling
        if needed > fitted:
            fail(study, trial, Failure.OUT_OF_MEMORY)
            ceiling = needed
        else:
            study.tell(trial, 0.5)


def test_out_of_memory_below_what_has_fitted_tightens_nothing(make_study: MakeStudy) -> None:
    phase = make_phase()
    sampler = make_study(phase).sampler
    points = phase.points(0, 64)
    points = points[phase.feasibility.feasible(points)]
    order = np.argsort(needed_bytes(phase.feasibility, points))
    rules = sampler._rules
    smallest, largest = points[order[:1]], points[order[-1:]]
    assert rules.tightened(smallest, largest) == rules
    tightened = rules.tightened(largest, smallest)
    assert not tightened.assess(largest).feasible[0]
    assert tightened.assess(smallest).feasible[0]


def test_other_failures_are_learnt_as_bad(make_study: MakeStudy) -> None:
    phase = make_phase()
    study = make_study(phase)
    add_finished(study, phase, phase.length)
    space = phase.space
    proposals = []
    for _ in range(4):
        trial, kernel = propose(study, phase)
        proposals.append(space.unit(space.vector(kernel)[None, :])[0])
        fail(study, trial, Failure.DIVERGED)
    gaps = [np.linalg.norm(a - b) for i, a in enumerate(proposals) for b in proposals[:i]]
    assert min(gaps) > 0.05


@pytest.mark.parametrize("value", [0.1, float("nan")])
def test_a_model_that_cannot_be_fitted_falls_back_and_says_so(
    make_study: MakeStudy, monkeypatch: pytest.MonkeyPatch, value: float
) -> None:
    phase = make_phase()
    study = make_study(phase)
    add_finished(study, phase, phase.length)

    def broken(*args: object) -> None:
        raise np.linalg.LinAlgError("not positive definite")

    if np.isnan(value):
        monkeypatch.setattr(proposal, "Surrogate", broken)
    trial, kernel = propose(study, phase)
    assert is_feasible(phase, kernel)
    told = study.get_trials()[trial.number].user_attrs.get(FALLBACK)
    assert (told is not None) == bool(np.isnan(value))


def test_too_few_trials_for_a_model_fall_back_and_say_so(make_study: MakeStudy) -> None:
    phase = make_phase()
    study = make_study(phase)
    for kernel in phase.points(0, phase.length):
        study.add_trial(
            optuna.trial.create_trial(
                params=phase.space.kernel(kernel),
                distributions=phase.space.distributions,
                state=optuna.trial.TrialState.PRUNED,
            )
        )
    trial, kernel = propose(study, phase)
    assert is_feasible(phase, kernel)
    assert "too few" in study.get_trials()[trial.number].user_attrs[FALLBACK]


def test_equal_values_are_no_trouble(make_study: MakeStudy) -> None:
    phase = make_phase()
    study = make_study(phase)
    for _ in range(phase.length + 3):
        trial, kernel = propose(study, phase)
        if is_feasible(phase, kernel):
            study.tell(trial, 0.1)
        else:
            study.tell(trial, state=optuna.trial.TrialState.PRUNED)
    assert all(FALLBACK not in t.user_attrs for t in study.get_trials())


def test_fixed_parameters_stay_fixed(make_study: MakeStudy) -> None:
    phase: SobolPhase = make_phase(fixed={"B": 0.5, "S0": 12.0})
    study = make_study(phase)
    add_finished(study, phase, phase.length)
    _, kernel = propose(study, phase)
    assert (kernel["B"], kernel["S0"]) == (0.5, 12.0)
