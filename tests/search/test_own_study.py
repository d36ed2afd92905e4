"""``betanas.space`` and ``betanas.Sampler`` in a plain Optuna study, as others would use them."""

import pickle
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import optuna
import pytest
import torch
from optuna.trial import TrialState, create_trial

import betanas
from betanas.errors import InputError, StudyFileError
from betanas.search.architecture_space import ArchitectureSpace
from betanas.search.situation import PROPOSED, Situation

optuna.logging.set_verbosity(optuna.logging.WARNING)


@pytest.fixture(scope="module")
def space() -> ArchitectureSpace:
    limits = {"num_params": 6_000_000}
    return betanas.space("betanet2", resolution=64, num_classes=10, limits=limits)


def objective(space: ArchitectureSpace, trial: optuna.Trial) -> float:
    """A smooth stand-in for a training."""
    architecture = space.suggest(trial)
    assert len(architecture.layers) > 0
    p = trial.params
    return float(np.exp(-((p["G0"] - 3) ** 2) / 2 - (p["K"] - 3) ** 2 / 4 - (p["B"] - 0.4) ** 2))


def make(space: ArchitectureSpace, url: str | None = None, **options: object) -> optuna.Study:
    sampler = betanas.Sampler(space, **{"sobol_trials": 8, "min_feasible": 4, **options})
    return optuna.create_study(
        storage=url, study_name="own", direction="maximize", sampler=sampler, load_if_exists=True
    )


def phase_of(study: optuna.Study) -> int:
    return study.sampler._problem.sobol_length


def check_proposals(study: optuna.Study, space: ArchitectureSpace, first: int) -> None:
    """After the first phase nothing is infeasible, nor proposed twice."""
    own = [t for t in study.trials if t.number >= first and space.rules.space.holds(t.params)]
    assert own
    assert all(space.is_feasible(t.params) for t in own)
    assert len({t.user_attrs["fingerprint"] for t in own}) == len(own)


# -- the space ------------------------------------------------------------------------------------


def test_what_is_infeasible_is_pruned_and_says_why(space: ArchitectureSpace) -> None:
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    study.optimize(lambda trial: objective(space, trial), n_trials=60)
    reasons = {t.user_attrs.get("reason") for t in study.trials if t.state == TrialState.PRUNED}
    assert reasons == {"no_contraction", "num_params"}
    for trial in study.trials:
        feasible = trial.state == TrialState.COMPLETE
        assert space.is_feasible(trial.params) == feasible
        assert trial.params.keys() == space.distributions.keys()
        assert ("reason" in trial.user_attrs) != feasible
        if trial.user_attrs.get("reason") == "no_contraction":
            assert "num_params" not in trial.user_attrs
            continue
        architecture = space.architecture(trial.params)
        with torch.device("meta"):
            model = betanas.build_model(architecture)
        weights = sum(p.numel() for p in model.parameters())
        assert trial.user_attrs["num_params"] == weights
        assert feasible == (weights <= 6_000_000)
        assert trial.user_attrs["fingerprint"] == architecture.fingerprint
        assert trial.user_attrs["macs"] > 0


def test_a_space_is_said_as_in_a_study_file() -> None:
    ranges = {"k": [2, 3], "G0": 2.5}
    space = betanas.space("betanet2", 64, 10, batch_size=8, parameters=ranges)
    assert space.distributions["k"] == optuna.distributions.FloatDistribution(2, 3)
    assert space.distributions["G0"].single()
    with pytest.raises(InputError, match="lack k"):
        space.architecture({"K": 3.0})
    small = betanas.space("betanet2", 64, 10, {"memory_gib": 0.01}, batch_size=64)
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    study.optimize(lambda t: objective(small, t), n_trials=30)
    assert "memory" in {t.user_attrs.get("reason") for t in study.trials}


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"family": "other"}, "space: family must be one of betanet2, betanet3, betamix"),
        ({"resolution": 8}, "space: resolution must be >= 16, but got 8"),
        ({"parameters": {"k": [3, 2]}}, "low <= high must hold"),
        ({"parameters": {"q": 1}}, "parameters.q is not a parameter of betanet2"),
        ({"limits": {"params": 1}}, "limits.params is not a key"),
        ({"limits": {"memory_gib": "auto"}}, "limits.memory_gib must be a number of GiB here"),
        ({"num_classes": 0}, "num_classes must be >= 1, but got 0"),
        ({"batch_size": 1}, r"recipe\.batch_size must be >= 2"),
    ],
)
def test_wrong_spaces(changed: dict, message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        betanas.space(**{"family": "betanet2", "resolution": 64, "num_classes": 10, **changed})
    if "family" in changed:
        assert isinstance(caught.value, StudyFileError)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"strategy": "best"}, "strategy must be one of botorch, gp, tpe, random"),
        ({"sobol_trials": 0}, "sobol_trials must be >= 1, but got 0"),
        ({"min_feasible": 30_000}, "min_feasible = 30000 would take more than"),
        ({"seed": -1}, "seed must be >= 0"),
    ],
)
def test_wrong_samplers(space: ArchitectureSpace, options: dict, message: str) -> None:
    with pytest.raises(InputError, match=message):
        betanas.Sampler(space, **options)


# -- the sampler ----------------------------------------------------------------------------------


def test_two_threads_on_sqlite_beside_foreign_trials(
    space: ArchitectureSpace, tmp_path: Path
) -> None:
    study = make(space, f"sqlite:///{tmp_path}/own.db")
    study.optimize(lambda trial: objective(space, trial), n_trials=phase_of(study))
    example = next(t for t in study.trials if t.state == TrialState.COMPLETE)
    wide = {n: optuna.distributions.FloatDistribution(-99, 99) for n in space.distributions}
    for params, known in (
        (example.params, example.distributions),
        (example.params | {"K": 77.0}, wide),
        ({}, {}),
    ):
        for state, value in (
            (TrialState.COMPLETE, 0.01),
            (TrialState.FAIL, None),
            (TrialState.PRUNED, None),
            (TrialState.RUNNING, None),
            (TrialState.WAITING, None),
        ):
            study.add_trial(
                create_trial(state=state, value=value, params=params, distributions=known)
            )
    study.optimize(lambda _: 1 / 0, n_trials=1, catch=ZeroDivisionError)
    first = len(study.trials)
    study.optimize(lambda trial: objective(space, trial), n_trials=3)  # those that were waiting
    study.optimize(lambda trial: objective(space, trial), n_trials=8, n_jobs=2)
    assert len(study.trials) >= first + 8
    check_proposals(study, space, first)


def test_a_proposal_knows_of_one_that_no_parameter_tells_yet(space: ArchitectureSpace) -> None:
    study = make(space)
    study.optimize(lambda trial: objective(space, trial), n_trials=phase_of(study))
    both = threading.Barrier(2)

    def slow(trial: optuna.Trial) -> float:
        trial.suggest_float("k", 2.0, 10.0)
        both.wait(60)  # both have been proposed, and neither has asked for more than one parameter
        return objective(space, trial)

    study.optimize(slow, n_trials=2, n_jobs=2)
    a, b = study.trials[-2:]
    assert a.system_attrs[PROPOSED] == a.params
    asked, other = study.ask(), study.ask()
    asked.suggest_float("k", 2.0, 10.0)
    situation = Situation.of(study, other._cached_frozen_trial, study.sampler._problem)
    noted = study.trials[asked.number].system_attrs[PROPOSED]
    np.testing.assert_array_equal(situation.pending, [space.rules.space.vector(noted)])
    check_proposals(study, space, a.number)
    assert a.user_attrs["fingerprint"] != b.user_attrs["fingerprint"]


@pytest.mark.slow
def test_after_a_restart_it_goes_on_as_if_nothing_had_happened(
    space: ArchitectureSpace, tmp_path: Path
) -> None:
    whole = make(space)
    number = phase_of(whole) + 4
    whole.optimize(lambda trial: objective(space, trial), n_trials=number)
    url = f"sqlite:///{tmp_path}/own.db"
    make(space, url).optimize(lambda trial: objective(space, trial), n_trials=number - 2)
    code = (
        "import sys, betanas, optuna; sys.path.insert(0, sys.argv[1])\n"
        "from test_own_study import make, objective\n"
        "space = betanas.space('betanet2', 64, 10, {'num_params': 6_000_000})\n"
        "make(space, sys.argv[2]).optimize(lambda t: objective(space, t), n_trials=2)\n"
    )
    folder = str(Path(__file__).parent)
    subprocess.run([sys.executable, "-c", code, folder, url], check=True)
    resumed = optuna.load_study(study_name="own", storage=url)
    assert [t.params for t in resumed.trials] == [t.params for t in whole.trials]


@pytest.mark.slow
def test_it_learns_and_finds_more_than_chance(space: ArchitectureSpace) -> None:
    study = make(space)
    first = phase_of(study)
    study.optimize(lambda trial: objective(space, trial), n_trials=first + 10)
    check_proposals(study, space, first)
    values = [t.value for t in study.trials if t.state == TrialState.COMPLETE]
    sobol = [t.value for t in study.trials[:first] if t.state == TrialState.COMPLETE]
    assert max(values) > max(sobol)


@pytest.mark.parametrize("strategy", ["tpe", "random", "evolution"])
def test_the_other_strategies_are_feasible_too(space: ArchitectureSpace, strategy: str) -> None:
    study = make(space, strategy=strategy)
    first = phase_of(study)
    study.optimize(lambda trial: objective(space, trial), n_trials=first + 4)
    assert all(t.state == TrialState.COMPLETE for t in study.trials[first:])


def test_an_objective_may_ask_for_parameters_of_its_own(space: ArchitectureSpace) -> None:
    study = make(space)

    def own(trial: optuna.Trial) -> float:
        value = objective(space, trial)
        trial.suggest_categorical("optimizer", ["adam", "sgd"])
        return value - abs(trial.suggest_float("learning_rate", 1e-4, 1e-1, log=True) - 1e-2)

    study.optimize(own, n_trials=phase_of(study) + 4)
    last = study.trials[-1]
    assert last.state == TrialState.COMPLETE
    assert 1e-4 <= last.params["learning_rate"] <= 1e-1
    assert {t.params.get("optimizer") for t in study.trials} >= {"adam", "sgd"}


def test_trials_that_optunas_pruner_ended_are_learnt_and_not_repeated(
    space: ArchitectureSpace,
) -> None:
    study = make(space)
    first = phase_of(study)

    def pruned(trial: optuna.Trial) -> float:
        value = objective(space, trial)
        trial.report(value / 2, 1)
        if trial.number >= first and trial.number % 2:
            raise optuna.TrialPruned
        trial.report(value, 2)
        return value

    study.optimize(pruned, n_trials=first + 6)
    check_proposals(study, space, first)
    situation = Situation.of(study, study.ask()._cached_frozen_trial, study.sampler._problem)
    assert len(situation.stopped.expected.kernels) == 3


@pytest.mark.parametrize("directions", [["minimize"], ["maximize", "minimize"]])
def test_another_direction_is_refused(space: ArchitectureSpace, directions: list[str]) -> None:
    study = optuna.create_study(directions=directions, sampler=betanas.Sampler(space))
    with pytest.raises(InputError, match=r"maximises one value, but the study has .*minimize"):
        study.optimize(lambda trial: objective(space, trial), n_trials=1)


def test_a_sampler_can_be_pickled(space: ArchitectureSpace) -> None:
    study = make(space)
    study.optimize(lambda trial: objective(space, trial), n_trials=phase_of(study) + 1)
    sampler = pickle.loads(pickle.dumps(study.sampler))  # noqa: S301 - our own
    trial = study.ask()
    trial.suggest_float("k", 2.0, 10.0)
    assert (
        sampler.propose(study, trial._cached_frozen_trial)[0]
        == study.trials[-1].system_attrs[PROPOSED]
    )
