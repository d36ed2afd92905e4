"""Our search for a Pareto front beside NSGA-II, TPE and others: one command, one table.

    python benchmarks/front.py --quick
    python benchmarks/front.py --seeds 5 --output front.json   # goes on if stopped

Two objectives on real spaces: the artificial accuracies of benchmarks/landscapes.py, with noise,
and multiply-adds, which are counted; and two of BoTorch's constrained problems, both of whose
objectives are measured, without noise. Every sampler begins with the same Sobol points and proposes
feasible kernels only, so that what differs is the strategy alone; ``stock`` is what BoTorchSampler
does with several objectives, expected hypervolume improvement, its draws moved into the feasible
set. The figure is the hypervolume of the noise-free values, counted from one reference point a
problem and seed, over that of the best front that all samplers together have found there.
"""

import argparse
import json
import statistics
import sys
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import torch
from botorch.test_functions import multi_objective
from landscapes import BoxRules, problems
from optuna.trial import TrialState, create_trial
from optuna_integration.botorch import qehvi_candidates_func

from betanas.arrays import FloatArray
from betanas.parameters import Real
from betanas.search.front import as_points, hypervolume, hypervolumes, reference_point
from betanas.search.problem import Problem
from betanas.search.rules import Rules
from betanas.search.sampler import KernelSampler
from betanas.search.space import Space

SAMPLERS = ("botorch", "nsga2", "tpe", "stock", "evolution", "random")
PROBLEMS = ("b2 architecture", "b3 smooth", "disc brake", "welded beam")

optuna.logging.set_verbosity(optuna.logging.ERROR)
warnings.filterwarnings("ignore")


@dataclass(frozen=True)
class TwoObjectives:
    """A problem with two objectives.

    Attributes:
        searched: Space, rules and the first phase; the same points for every sampler.
        values: Noise-free, the first to rise, the second, positive, to fall: ``n x d`` to
            ``n x 2``.
        noise: Standard deviation of what a sampler is told of the first.
    """

    searched: Problem[Rules]
    values: Callable[[FloatArray], FloatArray]
    noise: float


def landscape(name: str, seed: int) -> TwoObjectives:
    """An artificial accuracy beside multiply-adds, which are known without a trial."""
    one = problems()[name](seed)

    def values(kernels: FloatArray) -> FloatArray:
        return np.column_stack([one.objective(kernels), one.rules.costs(kernels)["macs"]])

    return TwoObjectives(replace(one.sobol, objectives=("accuracy", "macs")), values, one.noise)


def engineering(function: Any, seed: int) -> TwoObjectives:
    """One of BoTorch's problems, its constraints declared as known, both objectives measured."""
    low, high = function.bounds.double().numpy()
    ends = enumerate(zip(low, high, strict=True))
    space = Space(tuple(Real(f"x{i}", a, b) for i, (a, b) in ends))

    def values(points: FloatArray) -> FloatArray:
        found = function._evaluate_true(torch.from_numpy(points)).numpy()
        return np.column_stack([-found[:, 0], found[:, 1]])

    objectives = ("accuracy", "latency")
    searched = Problem(space, BoxRules(function), seed, 20, 10, objectives=objectives)
    return TwoObjectives(searched, values, 0.0)


def make_problem(name: str, seed: int) -> TwoObjectives:
    """A problem by its name in the table."""
    double = {"dtype": torch.double}
    match name:
        case "disc brake":
            return engineering(multi_objective.DiscBrake(**double), seed)
        case "welded beam":
            return engineering(multi_objective.WeldedBeam(**double), seed)
    return landscape(name, seed)


def run(problem: TwoObjectives, sampler: str, seed: int, evaluations: int) -> dict[str, Any]:
    """One search until so many feasible evaluations, the Sobol phase's included.

    Returns:
        ``values``: noise-free, of each evaluation; ``opening``: how many of them are Sobol points;
        ``seconds``: of the processor, of each proposal.
    """
    torch.set_num_threads(1)
    noise = np.random.default_rng([11, seed])
    searched = problem.searched
    space, rules = searched.space, searched.rules
    strategy = qehvi_candidates_func if sampler == "stock" else sampler
    study = optuna.create_study(
        directions=["maximize", "minimize"], sampler=KernelSampler(searched, strategy)
    )
    kernels = searched.sobol_points(0, searched.sobol_length)
    feasible = rules.assess(kernels).feasible
    found = problem.values(kernels[feasible]).tolist()
    told = iter([[a + float(noise.normal(scale=problem.noise)), m] for a, m in found])
    for kernel, there in zip(kernels, feasible, strict=True):
        study.add_trial(
            create_trial(
                params=space.kernel(kernel),
                distributions=space.distributions,
                state=TrialState.COMPLETE if there else TrialState.PRUNED,
                values=next(told) if there else None,
            )
        )
    opening, seconds = len(found), []
    while len(found) < evaluations:
        began = time.process_time()
        trial = study.ask(space.distributions)
        seconds.append(round(time.process_time() - began, 3))
        kernel = space.vector(trial.params)[None, :]
        assert rules.assess(kernel).feasible[0]
        found += problem.values(kernel).tolist()
        accuracy, cost = found[-1]
        study.tell(trial, [accuracy + float(noise.normal(scale=problem.noise)), cost])
    return {"values": found, "opening": opening, "seconds": seconds}


def shares(results: dict[str, Any], name: str, seed: int, samplers: list[str]) -> dict[str, Any]:
    """``sampler -> hypervolume after each evaluation``, as shares of all fronts' together."""
    runs = {s: results[f"{name}|{s}|{seed}"] for s in samplers if f"{name}|{s}|{seed}" in results}
    points = {s: as_points(np.array(own["values"])) for s, own in runs.items()}
    opening = next(iter(runs.values()))["opening"]
    reference = reference_point(next(iter(points.values()))[:opening])
    best = hypervolume(np.concatenate(list(points.values())), reference)
    return {s: hypervolumes(own, reference) / best for s, own in points.items()}


def table(results: dict[str, Any], names: list[str], samplers: list[str], seeds: int) -> str:
    """Medians (lowest to highest) at the end, and halfway from the opening to it."""
    lines = []
    for name in names:
        end: dict[str, list[float]] = {s: [] for s in samplers}
        half: dict[str, list[float]] = {s: [] for s in samplers}
        for seed in range(seeds):
            for s, grown in shares(results, name, seed, samplers).items():
                opening = results[f"{name}|{s}|{seed}"]["opening"]
                end[s].append(grown[-1])
                half[s].append(grown[(opening + len(grown)) // 2 - 1])
        for what, found in (("halfway", half), ("at the end", end)):
            cells = [
                f"{statistics.median(v):.3f} ({min(v):.2f} to {max(v):.2f})" if v else "-"
                for v in found.values()
            ]
            lines.append(f"| {name}, {what} | {' | '.join(cells)} |")
    seconds = [
        statistics.median(
            t for key, own in results.items() if key.split("|")[1] == s for t in own["seconds"]
        )
        for s in samplers
        if any(key.split("|")[1] == s for key in results)
    ]
    lines.append(f"| processor seconds a proposal | {' | '.join(f'{t:.2f}' for t in seconds)} |")
    head = [f"| problem | {' | '.join(samplers)} |", "|---" * (1 + len(samplers)) + "|"]
    return "\n".join([*head, *lines])


def main() -> None:
    """Runs what is asked for and prints the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--problems", nargs="*", default=list(PROBLEMS))
    parser.add_argument("--samplers", nargs="*", default=list(SAMPLERS))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--evaluations", type=int, default=100)
    parser.add_argument("--output", type=Path)
    parser.add_argument("--quick", action="store_true", help="one seed, 30 evaluations")
    asked = parser.parse_args()
    if asked.quick:
        asked.seeds, asked.evaluations = 1, 30
    kept = asked.output is not None and asked.output.exists()
    results: dict[str, Any] = json.loads(asked.output.read_text()) if kept else {}
    for seed in range(asked.seeds):
        for name in asked.problems:
            for sampler in asked.samplers:
                key = f"{name}|{sampler}|{seed}"
                if key in results:
                    continue
                began = time.perf_counter()
                results[key] = run(make_problem(name, seed), sampler, seed, asked.evaluations)
                print(f"{key}: {time.perf_counter() - began:.0f} s", file=sys.stderr)
                if asked.output is not None:
                    asked.output.write_text(json.dumps(results))
    print(table(results, asked.problems, asked.samplers, asked.seeds))


if __name__ == "__main__":
    main()
