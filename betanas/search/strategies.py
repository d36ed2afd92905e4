"""The strategies behind ``search.sampler``: all of them propose feasible kernels only.

``botorch`` is BoTorch's model and acquisition functions with our maximiser, of several objectives
its expected hypervolume improvement (``front_strategy.py``). ``gp`` is another name of it, which
studies have that began before it was the default. ``tpe`` and ``cmaes`` are Optuna's, asked again
until a kernel is feasible; ``random`` draws among the feasible, ``evolution`` mutates the best of
the latest, ``local`` goes to the best one's neighbours, ``reinforce`` learns a policy
(``reinforce.py``), and ``grid`` goes through all points of one (``grid.py``). So a comparison on a
user's own data is fair: same rules, same database, and but for the grid the same first phase.
"""

from collections.abc import Callable
from importlib.util import find_spec
from typing import Any, Protocol

import numpy as np
from optuna.samplers import BaseSampler, CmaEsSampler, NSGAIISampler, TPESampler
from optuna.storages import InMemoryStorage
from optuna.study import Study
from optuna.trial import TrialState, create_trial

from betanas.arrays import FloatArray
from betanas.errors import InputError
from betanas.parameters import Choice
from betanas.search.acquisition import feasible_pool, keep_feasible
from betanas.search.acquisitions import Acquisition
from betanas.search.botorch_strategy import BoTorchStrategy
from betanas.search.candidates import CandidatesFunction, CandidatesStrategy
from betanas.search.front_strategy import HypervolumeImprovement
from betanas.search.grid import Grid
from betanas.search.problem import GRID_STEP, Problem
from betanas.search.reinforce import Reinforce
from betanas.search.rules import Rules
from betanas.search.situation import Situation
from betanas.search.space import Space
from betanas.trial import Phase

_MOST_DRAWS = 32  # of one of Optuna's samplers, before its draw is moved into the feasible set
_POPULATION = 32  # latest complete trials that evolution chooses parents from
_LEAST_POPULATION = 4
_TOURNAMENT = 8
_MUTATION = 0.1  # standard deviation, share of a range
_NEIGHBOURS = 256  # draws of one, so that of a few dozen options none is missed

Proposed = tuple[FloatArray | None, str]


class Strategy(Protocol):
    """Chooses kernels after the first phase."""

    def propose(self, situation: Situation, rng: np.random.Generator) -> Proposed:
        """A feasible kernel, ``d``, or None; and, for people, why there would be none."""
        ...


class Random:
    """``random``: uniform among the feasible kernels."""

    def __init__(self, space: Space, seed: int) -> None:
        self._space = space

    def propose(self, situation: Situation, rng: np.random.Generator) -> Proposed:
        """A kernel that owes nothing to those before it."""
        seed = int(rng.integers(2**32))
        return feasible_pool(self._space, situation.rules, 1, seed).kernels[0], ""


class OptunaDraws:
    """A sampler of Optuna's, drawn from until a kernel is feasible.

    Args:
        space: The ranges.
        make: From a seed to the sampler; called anew for every trial, so that nothing outlives it
            but the database.
    """

    def __init__(self, space: Space, make: Callable[[int], BaseSampler]) -> None:
        self._space, self._make = space, make

    def propose(self, situation: Situation, rng: np.random.Generator) -> Proposed:
        """The first feasible and new draw, or what of the last one can be had."""
        if not situation.complete:
            return None, "no complete trial to learn from"
        space = self._space
        searched = space.searched
        sampler = self._make(int(rng.integers(2**31)))
        for _ in range(_MOST_DRAWS):
            drawn = sampler.sample_relative(situation.study, situation.trial, searched)
            if set(drawn) != set(searched):
                return None, "Optuna's sampler had too few trials to learn from"
            kernel = _completed(space, drawn)
            if situation.admits(kernel):
                return kernel, ""
        moved = situation.nearby(kernel)
        return moved, "nothing feasible and new lies near what Optuna's sampler drew"


class Evolution:
    """``evolution``: the best of a few of the latest trials, mutated.

    Regularised evolution: parents die of age, not of bad values (Real et al., 2019, "Regularized
    Evolution for Image Classifier Architecture Search").
    """

    def __init__(self, space: Space, seed: int) -> None:
        self._space = space

    def propose(self, situation: Situation, rng: np.random.Generator) -> Proposed:
        """A feasible mutant that moves about two of its parent's parameters."""
        if not situation.complete:
            return None, "no complete trial to descend from"
        # Replicates would crowd the population with what is best already.
        own = [t.user_attrs.get("phase") != Phase.CONFIRM for t in situation.complete]
        latest = np.flatnonzero(own)[-_POPULATION:]
        chosen = rng.choice(latest, size=min(_TOURNAMENT, len(latest)), replace=False)
        parent = situation.kernels[chosen[np.argmax(situation.merits[chosen])]]
        free = np.zeros(len(self._space.names), dtype=bool)
        free[self._space.free] = True
        parents = np.repeat(parent[None, :], 1024, axis=0)
        moves = (rng.random(parents.shape) < 2 / free.sum()) & free
        moves[~moves.any(axis=1), rng.choice(self._space.free)] = True
        step = rng.normal(scale=_MUTATION, size=parents.shape) * moves
        mutants = keep_feasible(situation.rules, self._space.moved(parents, step, rng))
        for mutant in mutants.kernels:
            if situation.rules.identity(mutant) not in situation.known:
                return np.asarray(mutant), ""
        return None, "none of 1,024 mutants is feasible and new"


class LocalSearch:
    """``local``: the best trial with one parameter changed, as long as there is such a neighbour.

    When all neighbours of the best are known, the next best has its turn (White et al., 2021,
    "Exploring the Loss Landscape in Neural Architecture Search": to continue at the minimum).
    """

    def __init__(self, space: Space, seed: int) -> None:
        self._space = space

    def propose(self, situation: Situation, rng: np.random.Generator) -> Proposed:
        """A feasible and new neighbour, each as likely as another."""
        if not situation.complete:
            return None, "no complete trial to begin from"
        shape = (_NEIGHBOURS, len(self._space.names))
        for place in np.argsort(-situation.merits, kind="stable")[:_POPULATION]:
            step = np.zeros(shape)
            which = rng.choice(self._space.free, size=_NEIGHBOURS)
            step[np.arange(_NEIGHBOURS), which] = rng.normal(scale=_MUTATION, size=_NEIGHBOURS)
            around = np.repeat(situation.kernels[place][None, :], _NEIGHBOURS, axis=0)
            near = keep_feasible(situation.rules, self._space.moved(around, step, rng))
            for kernel in near.kernels:
                if situation.rules.identity(kernel) not in situation.known:
                    return np.asarray(kernel), ""
        return None, f"the {_POPULATION} best trials have no feasible and new neighbour"


class NSGA2:
    """``nsga2``: Optuna's NSGA-II, whose first generation are the trials that open the study.

    Optuna's own counts generations in attributes of the trials that it has proposed itself. Here
    the complete trials are dealt out to generations by number, so that the opening counts and
    nothing but the database is remembered (Deb et al., 2002, "A Fast and Elitist Multiobjective
    Genetic Algorithm: NSGA-II").
    """

    def __init__(self, space: Space, seed: int) -> None:
        self._space = space

    def propose(self, situation: Situation, rng: np.random.Generator) -> Proposed:
        """The first feasible and new child of the last whole generation."""
        space, complete = self._space, situation.complete
        opening = sum(t.number < situation.problem.opening_length for t in complete)
        population = max(_LEAST_POPULATION, min(_POPULATION, opening))
        if len(complete) < population:
            return None, f"{len(complete)} complete trials are too few for a generation"
        sampler = NSGAIISampler(population_size=population, seed=int(rng.integers(2**31)))
        storage, searched = InMemoryStorage(), space.searched
        key = sampler._get_generation_key()  # noqa: SLF001 - it has no public name
        directions = situation.study.directions
        study_id = storage.create_new_study(directions, "generations")
        generations = Study("generations", storage)
        for place, t in enumerate(complete):
            generations.add_trial(
                create_trial(
                    state=TrialState.COMPLETE,
                    params={name: t.params[name] for name in searched},
                    distributions=searched,
                    values=t.values,
                    system_attrs={key: place // population},
                )
            )
        child = storage.get_trial(storage.create_new_trial(study_id))
        for _ in range(_MOST_DRAWS):
            drawn = sampler.sample_relative(generations, child, searched)
            # What it leaves out has mutated: it is drawn anew.
            fresh = space.kernel(space.kernels(rng.random((1, len(space.names))))[0])
            kernel = _completed(space, {name: fresh[name] for name in searched} | drawn)
            if situation.admits(kernel):
                return kernel, ""
        moved = situation.nearby(kernel)
        return moved, "nothing feasible and new lies near what Optuna's sampler drew"


def _completed(space: Space, drawn: dict[str, Any]) -> FloatArray:
    """A whole kernel, ``d``, from values of its free parameters."""
    return space.vector(space.kernel(space.low) | drawn)


def _tpe(space: Space, seed: int) -> Strategy:  # noqa: ARG001 - as all strategies are made
    def make(trial_seed: int) -> BaseSampler:
        return TPESampler(
            seed=trial_seed, multivariate=True, constant_liar=True, n_startup_trials=1
        )

    return OptunaDraws(space, make)


def _cmaes(space: Space, seed: int) -> Strategy:  # noqa: ARG001 - as all strategies are made
    if find_spec("cmaes") is None:
        raise InputError(
            "search.sampler = cmaes needs the package cmaes, which is not installed: "
            "pip install betanas[cmaes]"
        )
    choices = [p.name for p in space.parameters if isinstance(p, Choice)]
    if choices:
        raise InputError(
            "search.sampler = cmaes searches numbers only, but the study has the choices "
            f"{', '.join(choices)}; take botorch, tpe, evolution or random"
        )

    def make(trial_seed: int) -> BaseSampler:
        return CmaEsSampler(seed=trial_seed, n_startup_trials=1)

    return OptunaDraws(space, make)


STRATEGIES: dict[str, Callable[[Space, int], Strategy]] = {
    "botorch": BoTorchStrategy,
    "gp": BoTorchStrategy,
    "tpe": _tpe,
    "random": Random,
    "cmaes": _cmaes,
    "evolution": Evolution,
    "nsga2": NSGA2,
    "local": LocalSearch,
    "reinforce": Reinforce,
    "grid": lambda space, seed: Grid(space, seed, GRID_STEP),
}
_OF_SEVERAL = STRATEGIES | {"botorch": HypervolumeImprovement, "gp": HypervolumeImprovement}


def make_strategy(
    strategy: str | CandidatesFunction,
    problem: Problem[Rules],
    acquisition: Acquisition | None = None,
) -> Strategy:
    """What proposes in a study.

    Args:
        strategy: A name of ``STRATEGIES``, or a ``candidates_func`` of ``BoTorchSampler``.
        problem: What is searched, by how many objectives.
        acquisition: Of ``botorch`` or ``gp``: a name of ``acquisitions.ACQUISITIONS``, or what
            makes one.

    Raises:
        InputError: For an unknown acquisition, or one beside another strategy; for a strategy whose
            optional dependency is not installed, or that cannot search the problem.
    """
    space, seed, several = problem.space, problem.seed, len(problem.objectives) > 1
    if acquisition is not None and strategy not in ("botorch", "gp"):
        other = strategy if isinstance(strategy, str) else "a candidates_func"
        raise InputError(f"acquisition is of the strategy botorch, but the strategy is {other}")
    if several and acquisition is not None:
        raise InputError(
            "several objectives are searched by expected hypervolume improvement; leave out the "
            "acquisition, or give one objective"
        )
    if several and strategy == "cmaes":
        raise InputError(
            "search.sampler = cmaes searches one objective; take botorch, tpe or nsga2"
        )
    if not isinstance(strategy, str):
        return CandidatesStrategy(space, strategy)
    if strategy == "grid":
        return Grid(space, seed, problem.grid_step)
    if acquisition is not None:
        return BoTorchStrategy(space, seed, acquisition)
    return (_OF_SEVERAL if several else STRATEGIES)[strategy](space, seed)


def feasible_point(situation: Situation, seed: int) -> FloatArray:
    """The feasible Sobol point, ``d``, that belongs to a trial's number."""
    number = situation.trial.number
    pool = feasible_pool(situation.space, situation.rules, number + 1, seed)
    return np.asarray(pool.kernels[number % len(pool)])
