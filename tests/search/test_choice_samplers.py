"""Samplers that walk over choices: the neighbours of the best, and a policy that learns."""

from collections.abc import Hashable

import numpy as np
import optuna
import pytest
from own_problem import SPACE, value

from betanas.arrays import FloatArray
from betanas.parameters import Choice
from betanas.search.problem import Problem
from betanas.search.reinforce import Reinforce
from betanas.search.rules import Assessment, Rules
from betanas.search.sampler import FALLBACK, KernelSampler
from betanas.search.space import Space

GRID = Space((Choice("a", ("p", "q", "r")), Choice("b", ("p", "q", "r"))))


class Anything(Rules):
    """All is feasible, and nothing is known of it."""

    def assess(self, kernels: FloatArray) -> Assessment:
        return Assessment(np.ones(len(kernels), dtype=np.bool_), np.zeros((len(kernels), 0)))

    def identity(self, kernel: FloatArray) -> Hashable:
        return kernel.tobytes()


def searched(strategy: str, trials: int) -> optuna.Study:
    """The order of values is that of the letters, ``a`` before ``b``."""
    sampler = KernelSampler(Problem(GRID, Anything(), 0, 2, 2), strategy)
    study = optuna.create_study(direction="maximize", sampler=sampler)
    options = ("p", "q", "r")

    def objective(trial: optuna.Trial) -> float:
        a, b = (options.index(trial.suggest_categorical(name, options)) for name in "ab")
        return 3.0 * a + b

    study.optimize(objective, n_trials=trials)
    return study


def test_local_search_takes_unknown_neighbours_of_the_best_until_nothing_is_left() -> None:
    trials = searched("local", 10).trials
    kernels = [(t.params["a"], t.params["b"]) for t in trials]
    first = 2
    new = len(set(kernels[:first]))
    whole = first + 9 - new  # by then all nine kernels are known
    assert len(set(kernels[:whole])) == 9
    for number in range(first, whole):
        known = set(kernels[:number])
        ranked = sorted(trials[:number], key=lambda t: -(t.value or 0.0))
        for t in ranked:
            a, b = t.params["a"], t.params["b"]
            around = {(x, b) for x in "pqr"} | {(a, x) for x in "pqr"}
            if around - known:
                assert kernels[number] in around - known
                break
        assert FALLBACK not in trials[number].user_attrs
    assert "no feasible and new neighbour" in trials[whole].user_attrs[FALLBACK]


def test_a_policy_learns_from_the_trials_whatever_the_scale_of_their_values() -> None:
    policy = Reinforce(SPACE, 0)
    kernels = SPACE.kernels(np.random.default_rng(0).random((60, len(SPACE.names))))
    values = np.array([value(SPACE.kernel(k)) for k in kernels])
    learnt = policy.policy(kernels, values)
    np.testing.assert_allclose(learnt, policy.policy(kernels, 1000 * values - 5))
    rate, layers, width, kind = np.split(learnt, np.cumsum([10, 9, 10]))
    for part in (rate, layers, width, kind):
        assert part.sum() == pytest.approx(1)
    plain, _, inverted = kind
    assert inverted > plain
    assert layers[3:7].sum() > 4 / 9  # around the best, 6
    nothing = policy.policy(kernels[:1], values[:1])
    np.testing.assert_allclose(nothing, np.concatenate([np.full(n, 1 / n) for n in (10, 9, 10, 3)]))


def test_a_policy_comes_to_prefer_the_best_and_never_repeats_itself() -> None:
    trials = searched("reinforce", 9).trials
    own = [(t.params["a"], t.params["b"]) for t in trials if FALLBACK not in t.user_attrs]
    assert len(set(own[2:])) == len(own[2:])
    assert max(t.value or 0.0 for t in trials) == 8.0
