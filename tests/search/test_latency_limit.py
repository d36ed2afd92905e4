"""A limit of the latency: predicted by an operator table, corrected by what trials measure."""

from collections.abc import Sequence

import numpy as np
import optuna
import pytest
from small_search import accuracy

from betanas.architecture.families import find_family
from betanas.architecture.family import Family
from betanas.architecture.limits import Feasibility, Limits
from betanas.architecture.operators import Grid, Operator, OperatorTable
from betanas.arrays import FloatArray
from betanas.search.problem import Problem
from betanas.search.rules import ArchitectureRules
from betanas.search.sampler import KernelSampler
from betanas.search.situation import Situation
from betanas.search.space import Space

FAMILY: Family = find_family("betanet2")


def table(seconds: float) -> OperatorTable:
    """So many seconds for an operator of 100 channels at side 10, whichever it is."""
    grids = {}
    for operator in Operator:
        axes: Sequence[tuple[int, int]] = ((1, 1000), (1, 100))
        axes = (axes[0], *axes) if operator.has_outputs else axes
        places = np.array(np.meshgrid(*axes, indexing="ij"), dtype=np.float64)
        grids[operator] = Grid(tuple(axes), seconds * (places[0] * places[-1] ** 2 / 1e4) ** 0.5)
    return OperatorTable("a device", grids)


def problem(limit_ms: float | None, *, steps: bool = False) -> Problem[ArchitectureRules]:
    space = Space(FAMILY.parameters)
    limits = Limits(64, 2_000_000, latency_ms=limit_ms)
    feasibility = Feasibility(
        FAMILY, 10, 32, 2, limits,
        operators=table(1e-4) if steps else None, answering=table(1e-4),
    )  # fmt: skip
    return Problem(space, ArchitectureRules(space, feasibility), 0, 8, 4)


def predicted(kernels: FloatArray) -> FloatArray:
    found = problem(None).rules.check(kernels).latency_ms
    assert found is not None
    return found


KERNELS = problem(None).feasible_kernels(256)
LIMIT = float(np.median(predicted(KERNELS)))


def test_what_is_predicted_to_keep_the_limit_is_feasible() -> None:
    feasible = problem(LIMIT).rules.assess(KERNELS).feasible
    assert feasible.tolist() == (predicted(KERNELS) <= LIMIT).tolist()


@pytest.mark.parametrize("factor", [0.7, 1.0, 1.6])
def test_measured_latencies_move_the_limit_of_the_predictions(factor: float) -> None:
    rules, seen = problem(LIMIT).rules, KERNELS[:40]
    learnt = rules.timed(seen, factor * predicted(seen))
    assert learnt.timed(seen, factor * predicted(seen)) == learnt  # from the table, not from itself
    others = predicted(KERNELS[40:])
    feasible = learnt.assess(KERNELS[40:]).feasible
    surely = np.abs(np.log(factor * others / LIMIT)) > 0.1
    # Beyond the declared margin a kernel is rejected whatever was learnt.
    expected = (factor * others <= LIMIT) & (others <= 1.5 * LIMIT)
    assert feasible[surely].tolist() == expected[surely].tolist()


def test_predictions_that_err_more_are_believed_less() -> None:
    rules, seen = problem(LIMIT).rules, KERNELS[:40]
    noise = np.exp(np.random.default_rng(0).normal(scale=0.5, size=40))
    good, bad = (rules.timed(seen, f * predicted(seen)) for f in (np.ones(40), noise))
    assert good.slower[1] < bad.slower[1]
    half = np.array([0.8 * LIMIT])
    assert good.fast_enough(half)[0] > bad.fast_enough(half)[0] > 0.5


def test_without_a_limit_or_a_measurement_nothing_is_learnt() -> None:
    free, limited = problem(None).rules, problem(LIMIT).rules
    assert free.timed(KERNELS[:3], np.ones(3)) is free
    assert limited.timed(KERNELS[:0], np.zeros(0)) is limited


def test_predicted_times_are_features() -> None:
    without = problem(None).rules.assess(KERNELS).features
    both = problem(None, steps=True).rules.assess(KERNELS).features
    assert both.shape[1] == without.shape[1] + 1
    assert np.allclose(np.exp(without[:, -1]), predicted(KERNELS))
    assert np.isfinite(both).all()


@pytest.mark.parametrize(
    "strategy", [pytest.param("gp", marks=pytest.mark.slow), "random", "evolution"]
)
def test_a_search_keeps_to_what_it_has_measured(strategy: str) -> None:
    """The device is 1.4 times as slow as the table says: after some trials that is known."""
    searched = problem(LIMIT)
    study = optuna.create_study(direction="maximize", sampler=KernelSampler(searched, strategy))
    latencies: list[float] = []
    while len(latencies) < 16:
        trial = study.ask(searched.space.distributions)
        kernel = searched.space.vector(trial.params)[None, :]
        if not searched.rules.check(kernel).feasible[0]:
            study.tell(trial, state=optuna.trial.TrialState.PRUNED)
            continue
        latencies.append(1.4 * float(predicted(kernel)[0]))
        trial.set_user_attr("latency", {"p50_ms": latencies[-1]})
        slow = latencies[-1] > LIMIT
        state = optuna.trial.TrialState.PRUNED if slow else None
        study.tell(trial, None if slow else accuracy(trial.params), state=state)
    assert max(latencies[:6]) > 1.2 * LIMIT
    assert max(latencies[-6:]) < 1.2 * LIMIT


def test_a_network_that_was_too_slow_is_not_proposed_again() -> None:
    searched = problem(LIMIT)
    sampler = optuna.samplers.RandomSampler(seed=1)
    study = optuna.create_study(direction="maximize", sampler=sampler)
    for reason in ("latency", "num_params"):
        trial = study.ask(searched.space.distributions)
        trial.set_user_attr("reason", reason)
        study.tell(trial, state=optuna.trial.TrialState.PRUNED)
    slow, large = (searched.space.vector(t.params) for t in study.trials)
    assert searched.rules.identity(slow) != searched.rules.identity(large)
    situation = Situation.of(study, study.get_trials()[0], searched)
    next_one = Situation.of(study, study._storage.get_trial(study.ask()._trial_id), searched)
    assert searched.rules.identity(slow) in next_one.known
    assert searched.rules.identity(large) not in next_one.known  # the rules know better
    assert searched.rules.identity(slow) not in situation.known  # the trial itself
