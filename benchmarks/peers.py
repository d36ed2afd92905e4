"""The samplers of benchmarks/search.py: ours behind Optuna, Optuna's own, Ax and HEBO.

Every sampler starts from the same Sobol points. Peers are told of rejected points what a user
would tell them: the value 0 in the BetaNet spaces (as the published search did), the size of the
violation where a sampler models constraints (engineering problems), else the worst value.
"""

import logging
import warnings
from collections.abc import Callable
from typing import Any, Protocol

import numpy as np
import optuna
from landscapes import Problem
from optuna.samplers import BaseSampler, CmaEsSampler, GPSampler, RandomSampler, TPESampler
from optuna.trial import TrialState
from optuna_integration import BoTorchSampler

from betanas.arrays import FloatArray
from betanas.search.sampler import KernelSampler

optuna.logging.set_verbosity(optuna.logging.ERROR)
warnings.filterwarnings("ignore")


class Peer(Protocol):
    """A sampler in the middle of a run."""

    def ask(self) -> FloatArray:
        """The next kernel, ``d``."""
        ...

    def tell(self, kernel: FloatArray, value: float | None, violation: float | None) -> None:
        """The value of what was asked; None if it was rejected."""
        ...

    def begin(
        self, kernels: FloatArray, values: list[float | None], violations: list[float | None]
    ) -> None:
        """The Sobol phase's points, ``n x d``."""
        ...


class OptunaPeer:
    """An Optuna sampler by ask and tell.

    Args:
        problem: Gives the space.
        sampler: Optuna's, or ours.
        told: How a rejected point is told: ``pruned``, ``zero`` or ``constraint``.
    """

    def __init__(self, problem: Problem, sampler: BaseSampler, told: str) -> None:
        self._space, self._told = problem.space, told
        self._study = optuna.create_study(direction="maximize", sampler=sampler)
        self._distributions = problem.space.distributions
        self._trial: optuna.Trial | None = None
        self._worst = 0.0

    def begin(
        self, kernels: FloatArray, values: list[float | None], violations: list[float | None]
    ) -> None:
        """Tells the Sobol phase's points, ``n x d``."""
        if self._told == "constraint":
            self._worst = min(value for value in values if value is not None)
        for kernel, value, violation in zip(kernels, values, violations, strict=True):
            pruned = value is None and self._told == "pruned"
            state = TrialState.PRUNED if pruned else TrialState.COMPLETE
            constrained = self._told == "constraint" and violation is not None
            self._study.add_trial(
                optuna.trial.create_trial(
                    params=self._space.kernel(kernel),
                    distributions=self._distributions,
                    state=state,
                    value=None if pruned else (self._worst if value is None else value),
                    constraints={"violation": violation} if constrained else None,
                )
            )

    def ask(self) -> FloatArray:
        """The next kernel, ``d``."""
        self._trial = self._study.ask(self._distributions)
        return self._space.vector(self._trial.params)

    def tell(self, kernel: FloatArray, value: float | None, violation: float | None) -> None:
        """The value of what was asked."""
        assert self._trial is not None
        if value is None and self._told == "pruned":
            self._study.tell(self._trial, state=TrialState.PRUNED)
            return
        if self._told == "constraint" and violation is not None:
            self._trial.set_constraint("violation", violation)
        self._study.tell(self._trial, self._worst if value is None else value)


class AxPeer:
    """Ax's own choice of generation strategy, after the same Sobol points."""

    def __init__(self, problem: Problem, seed: int) -> None:

        from ax.api.client import Client
        from ax.api.configs import RangeParameterConfig

        for name in list(logging.root.manager.loggerDict):
            if name.startswith("ax"):
                logging.getLogger(name).setLevel(logging.ERROR)
        self._space = problem.space
        self._constrained = problem.violation is not None
        self._client = Client(random_seed=seed)
        low, high = problem.space.low, problem.space.high
        self._client.configure_experiment(
            parameters=[
                RangeParameterConfig(
                    name=name, bounds=(float(low[i]), float(high[i])), parameter_type="float"
                )
                for i, name in enumerate(problem.space.names)
            ]
        )
        constraints = ["violation <= 0"] if self._constrained else None
        self._client.configure_optimization(objective="value", outcome_constraints=constraints)
        self._worst = 0.0

    def _data(self, value: float | None, violation: float | None) -> dict[str, float]:
        data = {"value": self._worst if value is None else value}
        if self._constrained and violation is not None:
            data["violation"] = violation
        return data

    def begin(
        self, kernels: FloatArray, values: list[float | None], violations: list[float | None]
    ) -> None:
        """Tells the Sobol phase's points, ``n x d``."""
        if self._constrained:
            self._worst = min(value for value in values if value is not None)
        for kernel, value, violation in zip(kernels, values, violations, strict=True):
            index = self._client.attach_trial(self._space.kernel(kernel))
            self._client.complete_trial(index, raw_data=self._data(value, violation))

    def ask(self) -> FloatArray:
        """The next kernel, ``d``."""
        ((self._index, parameters),) = self._client.get_next_trials(max_trials=1).items()
        return self._space.vector({name: float(parameters[name]) for name in self._space.names})

    def tell(self, kernel: FloatArray, value: float | None, violation: float | None) -> None:
        """The value of what was asked."""
        self._client.complete_trial(self._index, raw_data=self._data(value, violation))


class HeboPeer:
    """HEBO with its defaults, after the same Sobol points."""

    def __init__(self, problem: Problem, seed: int) -> None:
        import pandas
        from hebo.design_space.design_space import DesignSpace
        from hebo.optimizers.hebo import HEBO

        self._pandas, self._space = pandas, problem.space
        low, high = problem.space.low, problem.space.high
        design = DesignSpace().parse(
            [
                {"name": name, "type": "num", "lb": float(low[i]), "ub": float(high[i])}
                for i, name in enumerate(problem.space.names)
            ]
        )
        np.random.seed(seed)  # noqa: NPY002 - HEBO draws from numpy's global state
        self._hebo = HEBO(design, rand_sample=1, scramble_seed=seed)
        self._worst = 0.0

    def begin(
        self, kernels: FloatArray, values: list[float | None], violations: list[float | None]
    ) -> None:
        """Tells the Sobol phase's points, ``n x d``."""
        self._worst = min([0.0, *(value for value in values if value is not None)])
        for kernel, value in zip(kernels, values, strict=True):
            self.tell(kernel, value, None)

    def ask(self) -> FloatArray:
        """The next kernel, ``d``."""
        self._asked = self._hebo.suggest(1)
        return self._space.vector(self._asked.iloc[0].to_dict())

    def tell(self, kernel: FloatArray, value: float | None, violation: float | None) -> None:
        """The value of what was asked."""
        frame = self._pandas.DataFrame([self._space.kernel(kernel)])
        told = self._worst if value is None else value
        self._hebo.observe(frame, np.array([[-told]]))


def make_peer(name: str, problem: Problem, seed: int) -> Peer:
    """A sampler by its name in the table: a peer, ``betanas``, or ``betanas-STRATEGY``.

    ``betanas-botorch-NAME`` is our search with another acquisition function, by name.
    """
    if name == "ax":
        return AxPeer(problem, seed)
    if name == "hebo":
        return HeboPeer(problem, seed)
    if name.startswith("betanas"):
        strategy, _, acquisition = name.partition("-")[2].partition("-")
        sampler = KernelSampler(problem.sobol, strategy or "botorch", acquisition or None)
        return OptunaPeer(problem, sampler, "pruned")
    told = "zero" if problem.violation is None else "constraint"
    if name.endswith("-pruned"):
        name, told = name.removesuffix("-pruned"), "pruned"
    return OptunaPeer(problem, _STOCK[name](seed), told)


def _botorch(seed: int) -> Any:
    return BoTorchSampler(seed=seed, n_startup_trials=0)


_STOCK: dict[str, Callable[[int], BaseSampler]] = {
    "random": lambda seed: RandomSampler(seed=seed),
    "tpe": lambda seed: TPESampler(seed=seed, multivariate=True, n_startup_trials=10),
    "cmaes": lambda seed: CmaEsSampler(seed=seed, n_startup_trials=1),
    "gpsampler": lambda seed: GPSampler(
        seed=seed, n_startup_trials=0, deterministic_objective=False
    ),
    "botorch": _botorch,
}
