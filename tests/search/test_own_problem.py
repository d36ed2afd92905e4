"""Any problem with rules can be searched: real and whole numbers, and choices."""

from typing import Any

import numpy as np
import optuna
import pytest
from own_problem import SPACE, make_problem, value

from betanas.errors import InputError
from betanas.parameters import Integer
from betanas.search.acquisition import feasible_pool, maximize
from betanas.search.sampler import KernelSampler
from betanas.search.space import Space
from betanas.search.surrogate import Observations, Surrogate

NAMES = ("rate", "layers", "width", "kind", "fixed", "always")
KIND = NAMES.index("kind")


def drawn(number: int = 400) -> np.ndarray:
    return SPACE.kernels(np.random.default_rng(0).random((number, len(NAMES))))


def suggest(trial: optuna.Trial) -> dict[str, Any]:
    kernel = {}
    for name, d in SPACE.distributions.items():
        if isinstance(d, optuna.distributions.CategoricalDistribution):
            kernel[name] = trial.suggest_categorical(name, d.choices)
        elif isinstance(d, optuna.distributions.IntDistribution):
            kernel[name] = trial.suggest_int(name, d.low, d.high, log=d.log)
        else:
            kernel[name] = trial.suggest_float(name, d.low, d.high, log=d.log)
    return kernel


def test_values_are_of_their_kind_and_inside() -> None:
    for vector in drawn():
        kernel = SPACE.kernel(vector)
        assert SPACE.holds(kernel)
        assert isinstance(kernel["layers"], int)
        assert kernel["kind"] in ("plain", "residual", "inverted")
        assert (kernel["fixed"], kernel["always"]) == ("b", 3)
        np.testing.assert_array_equal(SPACE.vector(kernel), vector)
    assert set(SPACE.searched) == {"rate", "layers", "width", "kind"}


def test_every_value_has_an_equal_cell() -> None:
    unit = np.repeat(((np.arange(900) + 0.5) / 900)[:, None], len(NAMES), axis=1)
    kernels = SPACE.kernels(unit)
    assert np.unique(kernels[:, 1], return_counts=True)[1].tolist() == [100] * 9
    assert np.unique(kernels[:, KIND], return_counts=True)[1].tolist() == [300] * 3
    widths = kernels[:, 2]
    assert np.sum(widths <= 16) == pytest.approx(450, abs=30)  # even in the logarithm


def test_kernels_survive_the_unit_cube_and_its_ends() -> None:
    kernels = drawn()
    np.testing.assert_allclose(SPACE.kernels(SPACE.unit(kernels)), kernels)
    for end in (0.0, 1.0):
        kernel = SPACE.kernel(SPACE.kernels(np.full((1, len(NAMES)), end))[0])
        assert SPACE.holds(kernel)


def test_a_step_moves_whole_numbers_and_choices() -> None:
    kernels, rng = drawn(), np.random.default_rng(1)
    steps = np.where(rng.random(kernels.shape) < 0.5, 1e-3, 0.0) * rng.choice(
        [-1, 1], kernels.shape
    )
    moved = SPACE.moved(kernels, steps, rng)
    changed = moved != kernels
    free = SPACE.free
    np.testing.assert_array_equal(changed[:, free], steps[:, free] != 0)
    assert not changed[:, [4, 5]].any()
    assert all(SPACE.holds(SPACE.kernel(vector)) for vector in moved)
    assert len(np.unique(moved[changed[:, KIND], KIND])) == 3


def test_a_model_sees_options_at_equal_distances_and_no_gradient_of_what_has_none() -> None:
    same = np.repeat(drawn(1), 3, axis=0)
    same[:, KIND] = [0, 2, 3]
    encoded = SPACE.encode(same)
    assert encoded.shape[1] == SPACE.encoded_width == 3 + 3
    gaps = np.linalg.norm(encoded[[0, 0, 1]] - encoded[[1, 2, 2]], axis=1)
    np.testing.assert_allclose(gaps, 1.0)
    gradient = SPACE.decode_gradient(np.arange(1.0, 7.0)[None, :])
    np.testing.assert_array_equal(gradient, [[1.0, 0, 0, 0, 0, 0]])


@pytest.mark.parametrize(
    "strategy", ["botorch", "tpe", "random", "evolution", "nsga2", "local", "reinforce"]
)
def test_nothing_infeasible_is_proposed_and_the_best_is_found(strategy: str) -> None:
    problem = make_problem()
    study = optuna.create_study(direction="maximize", sampler=KernelSampler(problem, strategy))
    rejected = []
    for _ in range(problem.sobol_length + 24):
        trial = study.ask()
        kernel = suggest(trial)
        if problem.rules.assess(SPACE.vector(kernel)[None, :]).feasible[0]:
            study.tell(trial, value(kernel))
        else:
            rejected.append(trial.number)
            study.tell(trial, state=optuna.trial.TrialState.PRUNED)
    assert rejected
    assert max(rejected) < problem.sobol_length
    if strategy == "botorch":
        assert study.best_value > 0.9
        assert study.best_params["kind"] == "inverted"


def test_cmaes_says_that_it_cannot_search_choices() -> None:
    pytest.importorskip("cmaes")
    with pytest.raises(
        InputError, match="has the choices kind, fixed; take botorch, tpe, evolution"
    ):
        KernelSampler(make_problem(), "cmaes")


def test_the_maximiser_leaves_the_option_it_began_with() -> None:
    problem = make_problem()
    everything = feasible_pool(SPACE, problem.rules, 4096, 0)
    pool = everything.take(np.flatnonzero(everything.kernels[:, KIND] == 0))
    found, values = maximize(
        lambda kernels, _: np.array([value(SPACE.kernel(k)) for k in kernels]),
        SPACE,
        problem.rules,
        pool,
        pool.kernels[:4],
        np.random.default_rng(0),
    )
    assert SPACE.kernel(found.kernels[0])["kind"] == "inverted"
    assert values[0] > 0.95


def test_a_space_of_whole_numbers_alone_runs_out_and_says_so() -> None:
    space = Space((Integer("n", 1, 2),))
    assert space.discrete == [0]
    kernels = np.array([[1.0], [2.0]])
    np.testing.assert_array_equal(
        space.moved(kernels, np.full((2, 1), 0.01), np.random.default_rng(0)), [[2], [1]]
    )


def test_the_model_learns_from_choices() -> None:
    problem = make_problem()
    pool = feasible_pool(SPACE, problem.rules, 60, 0)
    values = np.array([value(SPACE.kernel(k)) for k in pool.kernels])
    model = Surrogate(SPACE, Observations(pool.kernels, pool.features, values, np.zeros(60)))
    asked = np.repeat(pool.kernels[:1], 2, axis=0)
    asked[:, KIND] = [0, 3]
    mean, _ = model.predict(asked, problem.rules.assess(asked).features)
    assert mean[1] - mean[0] == pytest.approx(0.3, abs=0.15)
