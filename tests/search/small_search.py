"""A small search: real rules, real databases, an objective that costs nothing."""

import numpy as np
import optuna

from betanas.architecture.families import FAMILIES
from betanas.architecture.limits import Feasibility, Limits
from betanas.search.space import SobolPhase, Space
from betanas.trial import Failure

RESOLUTION, SOBOL = 64, 24

optuna.logging.set_verbosity(optuna.logging.WARNING)


def make_phase(
    num_params: int = 6_000_000,
    memory_bytes: int | None = None,
    seed: int = 0,
    sobol_trials: int = SOBOL,
    min_feasible: int = 6,
    fixed: dict[str, float] | None = None,
) -> SobolPhase:
    """BetaNet2 at 64 pixels with limits of choice."""
    family = FAMILIES["betanet2"]
    ranges = family.ranges | {name: (value, value) for name, value in (fixed or {}).items()}
    low, high = np.array(list(ranges.values())).T
    limits = Limits(RESOLUTION, num_params, memory_bytes)
    return SobolPhase(
        Space(family.names, low, high),
        Feasibility(family, 10, 32, 2, limits),
        seed,
        sobol_trials,
        min_feasible,
    )


def accuracy(kernel: dict[str, float]) -> float:
    """A smooth stand-in for a training."""
    off = (kernel["G0"] - 3) ** 2 / 2 + (kernel["K"] - 3) ** 2 / 4 + (kernel["B"] - 0.4) ** 2
    return float(np.exp(-off))


def propose(study: optuna.Study, phase: SobolPhase) -> tuple[optuna.Trial, dict[str, float]]:
    """Asks for a trial and its kernel, and leaves it running."""
    trial = study.ask()
    kernel = {
        name: trial.suggest_float(name, d.low, d.high)
        for name, d in phase.space.distributions.items()
    }
    return trial, kernel


def is_feasible(phase: SobolPhase, kernel: dict[str, float]) -> bool:
    return bool(phase.feasibility.feasible(phase.space.vector(kernel)[None, :])[0])


def run(study: optuna.Study, phase: SobolPhase, trials: int) -> list[int]:
    """Runs trials as the search does; returns the numbers of those that were rejected."""
    rejected = []
    for _ in range(trials):
        trial, kernel = propose(study, phase)
        if is_feasible(phase, kernel):
            study.tell(trial, accuracy(kernel))
        else:
            rejected.append(trial.number)
            study.tell(trial, state=optuna.trial.TrialState.PRUNED)
    return rejected


def add_finished(study: optuna.Study, phase: SobolPhase, trials: int) -> None:
    """The Sobol phase and more Sobol points, all at once; infeasible ones are rejected."""
    for kernel in phase.points(0, trials):
        named = phase.space.kernel(kernel)
        feasible = is_feasible(phase, named)
        states = optuna.trial.TrialState
        study.add_trial(
            optuna.trial.create_trial(
                params=named,
                distributions=phase.space.distributions,
                state=states.COMPLETE if feasible else states.PRUNED,
                value=accuracy(named) if feasible else None,
            )
        )


def fail(study: optuna.Study, trial: optuna.Trial, reason: Failure) -> None:
    """Records a training that failed, as the search's storage does."""
    trial.set_user_attr("reason", str(reason))
    study.tell(trial, state=optuna.trial.TrialState.FAIL)
