"""Several objectives: dominance and hypervolume held against BoTorch's, and the strategies."""

from dataclasses import replace

import numpy as np
import optuna
import pytest
import torch
from botorch.utils.multi_objective.hypervolume import Hypervolume, infer_reference_point
from botorch.utils.multi_objective.pareto import is_non_dominated
from optuna.trial import TrialState
from optuna_integration.botorch import qehvi_candidates_func
from small_search import accuracy, is_feasible, make_problem, propose

from betanas.errors import InputError
from betanas.search.candidates import CandidatesFunction
from betanas.search.front import (
    as_points,
    as_values,
    hypervolume,
    hypervolumes,
    non_dominated,
    ranks,
    reference_point,
)
from betanas.search.plan import StudyProblem
from betanas.search.sampler import FALLBACK, KernelSampler

TWO = ("accuracy", "macs")
THREE = ("accuracy", "latency", "num_params")


@pytest.mark.parametrize("objectives", [2, 3])
def test_dominance_and_volume_are_botorchs(objectives: int) -> None:
    rng = np.random.default_rng(objectives)
    points = np.round(rng.random((60, objectives)), 1)  # with many equal numbers
    tensor = torch.from_numpy(points)
    np.testing.assert_array_equal(
        non_dominated(points), is_non_dominated(tensor, deduplicate=True).numpy()
    )
    reference = reference_point(points)
    theirs = infer_reference_point(tensor[is_non_dominated(tensor)])
    np.testing.assert_allclose(reference, theirs.numpy())
    volume = Hypervolume(ref_point=theirs).compute(tensor[is_non_dominated(tensor)])
    assert hypervolume(points, reference) == pytest.approx(volume)
    grown = hypervolumes(points, reference)
    assert (np.diff(grown) >= 0).all()
    for i in (0, 7, 59):
        assert grown[i] == pytest.approx(hypervolume(points[: i + 1], reference))


def test_a_single_point_has_a_reference_below_it() -> None:
    point = as_points(np.array([[0.5, 200.0]]))
    assert (reference_point(point) < point[0]).all()
    assert hypervolume(point, reference_point(point)) > 0
    assert hypervolume(point, point[0]) == 0
    np.testing.assert_allclose(as_values(point[0]), [0.5, 200.0])


def test_ranks_peel_fronts_off() -> None:
    points = np.array([[0.0, 0.0], [2, 1], [1, 2], [1, 1], [2, 1]])
    assert ranks(points).tolist() == [2, 0, 0, 1, 0]


def make_several(objectives: tuple[str, ...]) -> StudyProblem:
    return replace(make_problem(), objectives=objectives)


def values_of(problem: StudyProblem, kernel: dict[str, float]) -> list[float]:
    """Accurate networks are no cheap ones here; the latency follows the multiply-adds."""
    costs = {
        k: float(v[0]) for k, v in problem.rules.costs(problem.space.vectors([kernel])).items()
    }
    costs["latency"] = 1e-4 * costs["macs"] ** 0.6
    return [accuracy(kernel), *(costs[name] for name in problem.objectives[1:])]


def opened(problem: StudyProblem, strategy: str | CandidatesFunction) -> optuna.Study:
    """A study whose opening is behind."""
    others = ["minimize"] * (len(problem.objectives) - 1)
    sampler = KernelSampler(problem, strategy)
    study = optuna.create_study(directions=["maximize", *others], sampler=sampler)
    for point in problem.sobol_points(0, problem.sobol_length):
        kernel = problem.space.kernel(point)
        feasible = is_feasible(problem, kernel)
        study.add_trial(
            optuna.trial.create_trial(
                params=kernel,
                distributions=problem.space.distributions,
                state=TrialState.COMPLETE if feasible else TrialState.PRUNED,
                values=values_of(problem, kernel) if feasible else None,
            )
        )
    return study


@pytest.mark.parametrize("strategy", ["tpe", "random", "evolution", "nsga2", "local", "reinforce"])
def test_each_sampler_proposes_feasible_new_kernels(strategy: str) -> None:
    problem = make_several(TWO)
    study, again = (opened(problem, strategy) for _ in range(2))
    seen = set()
    for _ in range(6):
        trial, kernel = propose(study, problem)
        assert is_feasible(problem, kernel)
        assert kernel == propose(again, problem)[1], "a proposal follows from the database alone"
        seen.add(tuple(kernel.values()))
        for own in (study, again):
            own.tell(trial.number, values_of(problem, kernel))
        assert FALLBACK not in study.trials[trial.number].user_attrs
    assert len(seen) == 6


@pytest.mark.slow
def test_a_stock_function_in_a_search_for_a_front() -> None:
    problem, seen = make_several(TWO), []

    def stock(*given: torch.Tensor | None) -> torch.Tensor:
        seen.append(given[1])
        return qehvi_candidates_func(*given)

    study = opened(problem, stock)
    kernels = [propose(study, problem)[1] for _ in range(2)]
    assert all(is_feasible(problem, kernel) for kernel in kernels)
    assert kernels[0] != kernels[1]
    complete = study.get_trials(states=(TrialState.COMPLETE,))
    np.testing.assert_allclose(seen[0], as_points(np.array([t.values for t in complete])))
    assert not any(FALLBACK in t.user_attrs for t in study.trials)


@pytest.mark.slow
@pytest.mark.parametrize("objectives", [TWO, THREE])
def test_expected_hypervolume_improvement_widens_the_front(objectives: tuple[str, ...]) -> None:
    problem = make_several(objectives)
    study = opened(problem, "botorch")
    first = as_points(np.array([t.values for t in study.get_trials(states=(TrialState.COMPLETE,))]))
    reference = reference_point(first)
    proposals = []
    for _ in range(4):  # the second and the fourth while another one trains
        (one, a), (two, b) = propose(study, problem), propose(study, problem)
        assert is_feasible(problem, a)
        assert is_feasible(problem, b)
        proposals += [a, b]
        for trial, kernel in ((one, a), (two, b)):
            study.tell(trial, values_of(problem, kernel))
            assert FALLBACK not in study.trials[trial.number].user_attrs
    assert len({tuple(kernel.values()) for kernel in proposals}) == 8
    found = as_points(np.array([values_of(problem, kernel) for kernel in proposals]))
    every = np.concatenate([first, found])
    assert hypervolume(every, reference) > 1.5 * hypervolume(first, reference)
    assert non_dominated(every)[len(first) :].any()


def test_cmaes_searches_one_objective() -> None:
    with pytest.raises(InputError, match="cmaes searches one objective"):
        KernelSampler(make_several(TWO), "cmaes")
