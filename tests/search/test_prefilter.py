"""A prefilter: the best scored of what a strategy would propose, as repeatable as without one."""

from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest
from small_search import add_finished, is_feasible, make_problem, propose

import betanas
from betanas.measures.scored import kernel_scorer
from betanas.search.prefilter import Prefilter
from betanas.search.sampler import FALLBACK, KernelSampler
from betanas.study.loading import load_definition

CANDIDATES = 6


@pytest.mark.parametrize(
    "strategy", [pytest.param("gp", marks=pytest.mark.slow), "random", "local"]
)
def test_the_best_scored_of_several_new_kernels_is_proposed(strategy: str) -> None:
    problem = make_problem()
    scored: list[dict[str, Any]] = []

    def score(kernel: Any, number: int) -> float:
        scored.append(dict(kernel))
        return float(kernel["G0"]) if number % 2 else -float(kernel["G0"])

    def opened() -> optuna.Study:
        sampler = KernelSampler(problem, strategy, prefilter=Prefilter(CANDIDATES, score))
        study = optuna.create_study(direction="maximize", sampler=sampler)
        add_finished(study, problem, problem.sobol_length + 1)
        return study

    study, again = opened(), opened()
    for _ in range(2):
        scored.clear()
        trial, kernel = propose(study, problem)
        assert len(scored) == CANDIDATES
        assert len({tuple(k.values()) for k in scored}) == CANDIDATES
        sign = 1 if trial.number % 2 else -1
        assert kernel == max(scored, key=lambda k: sign * k["G0"])
        assert is_feasible(problem, kernel)
        assert FALLBACK not in study.trials[trial.number].user_attrs
        assert propose(again, problem)[1] == kernel


def test_what_a_strategy_cannot_propose_cannot_be_chosen() -> None:
    problem = make_problem()
    prefilter = Prefilter(CANDIDATES, lambda *_: pytest.fail("nothing to score"))
    sampler = KernelSampler(problem, "gp", prefilter=prefilter)
    study = optuna.create_study(direction="maximize", sampler=sampler)
    for _ in range(problem.sobol_length):
        study.add_trial(optuna.trial.create_trial(state=optuna.trial.TrialState.FAIL))
    trial, kernel = propose(study, problem)
    assert is_feasible(problem, kernel)
    assert "too few" in study.trials[trial.number].user_attrs[FALLBACK]


@pytest.mark.slow
def test_a_study_with_a_prefilter_trains_what_scores_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    plain = {"search.sampler": "random", "search.sobol_trials": 2, "search.min_feasible": 2}
    filtered = plain | {"search.prefilter": "synflow", "search.prefilter_candidates": 4}
    definition = load_definition("nasbench201-cifar10", filtered)
    score = kernel_scorer(definition, "synflow", 10, tmp_path)
    means = []
    for overrides, url in ((plain, "sqlite:///plain.db"), (filtered, "sqlite:///filtered.db")):
        study = betanas.optimize(
            "nasbench201-cifar10", overrides=overrides, trials=10, storage=url, device="cpu",
            progress=False,
        )  # fmt: skip
        records = [r for r in study.records() if r.phase == "random"]
        scores = [max(score(r.parameters, r.number), -1e3) for r in records]
        assert len(scores) == 8
        means.append(np.mean(scores))
    assert means[1] > means[0]
