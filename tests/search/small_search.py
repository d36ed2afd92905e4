"""A small search: real rules, real databases, an objective that costs nothing."""

import numpy as np
import optuna

from betanas.architecture.families import FAMILIES
from betanas.architecture.limits import Feasibility, Limits
from betanas.search.plan import StudyProblem
from betanas.search.problem import Problem
from betanas.search.rules import ArchitectureRules
from betanas.search.space import Space
from betanas.trial import Failure

RESOLUTION, SOBOL = 64, 24

optuna.logging.set_verbosity(optuna.logging.WARNING)


def make_problem(
    num_params: int = 6_000_000,
    memory_bytes: int | None = None,
    seed: int = 0,
    sobol_trials: int = SOBOL,
    min_feasible: int = 6,
    fixed: dict[str, float] | None = None,
) -> StudyProblem:
    """BetaNet2 at 64 pixels with limits of choice."""
    family = FAMILIES["betanet2"]
    fixed = fixed or {}
    space = Space(
        tuple(p.narrowed(fixed[p.name]) if p.name in fixed else p for p in family.parameters)
    )
    limits = Limits(RESOLUTION, num_params, memory_bytes)
    rules = ArchitectureRules(space, Feasibility(family, 10, 32, 2, limits))
    return Problem(space, rules, seed, sobol_trials, min_feasible)


def accuracy(kernel: dict[str, float]) -> float:
    """A smooth stand-in for a training."""
    off = (kernel["G0"] - 3) ** 2 / 2 + (kernel["K"] - 3) ** 2 / 4 + (kernel["B"] - 0.4) ** 2
    return float(np.exp(-off))


def propose(study: optuna.Study, problem: StudyProblem) -> tuple[optuna.Trial, dict[str, float]]:
    """Asks for a trial and its kernel, and leaves it running."""
    trial = study.ask()
    kernel = {
        name: trial.suggest_float(name, d.low, d.high)
        for name, d in problem.space.distributions.items()
    }
    return trial, kernel


def is_feasible(problem: StudyProblem, kernel: dict[str, float]) -> bool:
    return bool(problem.rules.feasibility.feasible(problem.space.vector(kernel)[None, :])[0])


def run(study: optuna.Study, problem: StudyProblem, trials: int) -> list[int]:
    """Runs trials as the search does; returns the numbers of those that were rejected."""
    rejected = []
    for _ in range(trials):
        trial, kernel = propose(study, problem)
        if is_feasible(problem, kernel):
            study.tell(trial, accuracy(kernel))
        else:
            rejected.append(trial.number)
            study.tell(trial, state=optuna.trial.TrialState.PRUNED)
    return rejected


def add_finished(study: optuna.Study, problem: StudyProblem, trials: int) -> None:
    """The Sobol problem and more Sobol points, all at once; infeasible ones are rejected."""
    for kernel in problem.sobol_points(0, trials):
        named = problem.space.kernel(kernel)
        feasible = is_feasible(problem, named)
        states = optuna.trial.TrialState
        study.add_trial(
            optuna.trial.create_trial(
                params=named,
                distributions=problem.space.distributions,
                state=states.COMPLETE if feasible else states.PRUNED,
                value=accuracy(named) if feasible else None,
            )
        )


def fail(study: optuna.Study, trial: optuna.Trial, reason: Failure) -> None:
    """Records a training that failed, as the search's storage does."""
    trial.set_user_attr("reason", str(reason))
    study.tell(trial, state=optuna.trial.TrialState.FAIL)
